"""The daemon under test: its settings, its process, its deaths."""

import signal
import socket
import time
from pathlib import Path

from broadcastd.selftest.books import in_doubt
from broadcastd.selftest.counts import Death
from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.life import Life, broadcastd_command
from broadcastd.selftest.options import LAST_ANSWERS_S, SENDS_PER_TASK, Options
from broadcastd.selftest.receiving import ReceivingSide

STARTS_WITHIN_S = 60.0
LOOK_S = 0.0005

SETTINGS = """\
[server]
port = {port}

[http]
enabled = false

[pool]
tasks = {tasks}
sends_per_task = {sends_per_task}

[ledger]
url = "sqlite:///ledger/ledger.db"
on_unknown = "{on_unknown}"
identity_dir = "identity"

[accounts.default]
api_base = "{api}"

[accounts.default.audience]
url = "sqlite:///site.db"

[accounts.default.http]
answer_timeout_s = 1.0

[accounts.default.template]
template_id = "SELFTEST"

[accounts.default.template.data]
keyword1 = "{{content}}"
"""


class DaemonUnderTest:
    """Started, killed and started again. `deaths` tells what each end left in doubt."""

    def __init__(self, options: Options, folder: Path, receiving: ReceivingSide) -> None:
        self.port = _free_port()
        self.ledger = folder / "ledger" / "ledger.db"
        self.deaths: list[Death] = []
        self.round_no = 0
        self._receiving = receiving
        self._log = folder / "daemon.log"
        self._settings = folder / "broadcastd.toml"
        self._settings.write_text(
            SETTINGS.format(
                port=self.port,
                tasks=options.tasks,
                sends_per_task=SENDS_PER_TASK,
                on_unknown=options.on_unknown,
                api=receiving.url,
            ),
            encoding="utf-8",
        )
        self._life: Life | None = None
        self._doubts_before = 0
        self._to_blame: Death | None = None
        """Whose doubts the next recovery finds."""

    @property
    def life(self) -> Life:
        """The present process."""
        assert self._life is not None
        return self._life

    def launch(self) -> None:
        """Start it, and return at once."""
        self._doubts_before = in_doubt(self.ledger)
        command = broadcastd_command("run", "-c", str(self._settings))
        self._life = Life(command, self._log)

    def start(self) -> None:
        """Start it, and return once it listens."""
        self.launch()
        if self.life.event("broadcastd_started", STARTS_WITHIN_S) is None:
            words = self.life.last_words
            self.close()
            raise SelftestStoppedError(f"the daemon does not start: {words or 'it says nothing'}")
        self._blame()

    def wait_recovering(self) -> None:
        """Return as soon as the started process has taken the ledger: it recovers now."""
        lock, pid = self.ledger.with_name(self.ledger.name + ".lock"), str(self.life.process.pid)
        gives_up_at = time.monotonic() + STARTS_WITHIN_S
        while self.life.runs and time.monotonic() < gives_up_at:
            if lock.exists() and lock.read_text() == pid:
                return
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """Send kill -9."""
        self._end("kill", signal.SIGKILL)

    def stop(self) -> Death:
        """SIGTERM, and wait until it has drained."""
        return self._end("stop", signal.SIGTERM)

    def revive(self) -> bool:
        """Start it again if it ended by itself; whether it had."""
        if self._life is None or self.life.runs:
            return False
        self._end("crash", signal.SIGKILL)
        self.start()
        return True

    def ended_how(self) -> str:
        """When it does not run: so, and its last words."""
        if self._life is None or self.life.runs:
            return ""
        return f" (the daemon has ended: {self.life.last_words or 'it says nothing'})"

    def close(self) -> None:
        """Make sure that it is gone."""
        if self._life is not None and self.life.runs:
            self.life.end(signal.SIGKILL)

    def _end(self, how: str, number: int) -> Death:
        if how != "crash" and not self.life.runs:
            how = "crash"
        since = time.time() - LAST_ANSWERS_S
        exit_code = self.life.end(number)
        answered = self._receiving.answered(since, time.time())
        self._blame()
        death = Death(how, self.round_no, answered, exit_code=exit_code)
        self.deaths.append(death)
        self._to_blame = self._to_blame or death
        return death

    def _blame(self) -> None:
        """Give what the present life found in doubt to the death that left it."""
        if self._to_blame is None:
            return
        opened = self.life.event("ledger_opened")
        if opened is not None:
            self._to_blame.in_doubt += opened["in_doubt"]
            self._to_blame = None
        else:
            # Ended on its way up, before it asked anybody: what it had found by then is in the books, and
            # the rest is left to the next start.
            self._to_blame.in_doubt += in_doubt(self.ledger) - self._doubts_before


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
