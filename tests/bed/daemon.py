"""The real process: started, asked over the wire, killed."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from bed.ports import eventually, free_port
from bed.warm import Started, WarmStarts
from broadcastd.errors import NoDaemonError
from broadcastd.wire import dial

SETTINGS = """
[server]
port = {port}
{server}
[http]
{http}
[pool]
{pool}
[ledger]
url = "{ledger_url}"
identity_dir = "identity"
{ledger}
[accounts.default]
api_base = "{api}"
channels = {channels}
{account}
[accounts.default.audience]
url = "{audience}"
{more}
[accounts.default.template]
template_id = "T1"
[accounts.default.template.data]
keyword1 = "{{content}}"
[accounts.default.http]
answer_timeout_s = {answer_timeout_s}
transport = "{transport}"
"""

TRANSPORT = os.environ.get("BROADCASTD_TEST_TRANSPORT", "aiohttp")
"""Of every daemon that does not say: so all tests of faults can be run over either."""


class DaemonProcess:
    """`broadcastd run` in a folder of its own. It may be started again and again.

    `cold`: by the real command, imports and all; for who looks at its memory or its command line.
    """

    warm: ClassVar[WarmStarts | None] = None
    """What spares a test the imports, while tests run; nothing else does without them."""

    def __init__(self, folder: Path, api: str, audience: str, *, cold: bool = False, **settings: Any) -> None:
        self.folder = folder
        self.cold = cold
        self.python = sys.executable
        self.port = free_port()
        self.settings = folder / "broadcastd.toml"
        values = {
            "server": "", "http": "enabled = false", "pool": "", "ledger": "",
            "ledger_url": "sqlite:///ledger.db", "account": "", "more": "", "answer_timeout_s": 30,
            "transport": TRANSPORT,
            **settings,
        }  # fmt: skip
        values["channels"] = json.dumps(values.get("channels", ["custom", "template"]))
        self.settings.write_text(
            SETTINGS.format(port=self.port, api=api, audience=audience, **values), encoding="utf-8"
        )
        self.process: Started | None = None
        self.tls: ssl.SSLContext | None = None
        """What its port is spoken to with."""

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text(encoding="utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines with this event. A disk that was full may have cut one in half."""
        found = []
        for line in self.log.splitlines():
            # A kill may cut a line, and the next start's first one goes on in it.
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict) and line.get("event") == name]

    def start(self) -> None:
        """Start, and return once it answers."""
        self.launch()
        eventually(self._answers, 30, "the daemon answers")

    def launch(self, *, cold: bool = False) -> None:
        """Start, and return at once. `cold`: by the real command, for who kills it while it starts."""
        with (self.folder / "daemon.log").open("ab") as log:
            words = ["run", "-c", str(self.settings)]
            if self.warm is None or cold or self.cold or self.python != sys.executable:
                self.process = subprocess.Popen(
                    [self.python, "-m", "broadcastd", *words], stdout=log, stderr=log
                )
            else:
                self.process = self.warm.run(words, log.fileno())

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-3000:]
        try:
            # Any answer will do: a daemon that wants a token refuses this one.
            return "ok" in self.call({"op": "ping"})
        except NoDaemonError:
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """A signal, and the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        """Make sure that it is gone, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.kill()

    def call(self, frame: dict[str, Any]) -> dict[str, Any]:
        """One frame, one reply."""
        return dial.call("127.0.0.1", self.port, frame, 60, self.tls)

    def job(self, job_id: str) -> dict[str, Any]:
        """A job and its books."""
        return self.call({"op": "job", "job": job_id})

    def control(self, op: str, job_id: str, **fields: Any) -> dict[str, Any]:
        """One of the controls, and its reply."""
        return self.call({"op": op, "job": job_id, **fields})

    def who(self, job_id: str, **filters: Any) -> list[dict[str, Any]]:
        """The recipients of a job, one line each. Fails unless the list is whole."""
        frame = {"op": "who", "job": job_id, **filters}
        *lines, last = dial.stream("127.0.0.1", self.port, frame, 60)
        assert last == {"ok": True, "job": job_id, "listed": len(lines)}
        return lines

    def wait_done(self, job_id: str, within_s: float = 120) -> dict[str, Any]:
        """Wait until the job is done; its last view."""
        return self.wait_state(job_id, "done", within_s=within_s)

    def wait_state(self, job_id: str, *states: str, within_s: float = 120) -> dict[str, Any]:
        """Wait until the job is in one of these states; its view then."""

        def there() -> dict[str, Any] | None:
            view = self.job(job_id)
            return view if view["state"] in states else None

        return eventually(there, within_s, f"{job_id} is {' or '.join(states)}")

    def memory_kb(self) -> int:
        """Peak resident memory."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])


@contextmanager
def daemon_process(folder: Path, api: str, audience: str, **settings: Any) -> Iterator[DaemonProcess]:
    """A started daemon; whatever happens it is gone at the end."""
    daemon = DaemonProcess(folder, api, audience, **settings)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()
