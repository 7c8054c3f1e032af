"""One process, from its start to its end, and the events that it logged."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broadcastd.settings_file import PREFIX

ENDS_WITHIN_S = 60.0
LAST_LINES = 5
NAMELESS = ""
"""Of a JSON line that names no event, such as the sandbox's start line."""


def broadcastd_command(*arguments: str) -> list[str]:
    """This very installation's command."""
    return [sys.executable, "-m", "broadcastd", *arguments]


class Life:
    """A started process. Its stderr is read through a pipe: no fault of the disk can reach its log."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        # An operator's environment must not steer it (a port, a ledger's url, …).
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self.process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for the selftest, which ends its processes itself
        )
        self._log = log
        self._lines: list[bytes] = []
        self._events: dict[str, dict[str, Any]] = {}
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"log of {self.process.pid}", daemon=True)
        self._reader.start()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return b"".join(self._lines).decode("utf-8", "replace").strip()

    def event(self, name: str, within_s: float = 0.0) -> dict[str, Any] | None:
        """The last log event of this name, once there is one; None when it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._events or self._ended, within_s)
            return self._events.get(name)

    def end(self, number: int) -> int:
        """Send a signal and wait for the end of the process and of its log; the exit code.

        Whoever does not end in time is killed, which shows in the exit code.
        """
        self.process.send_signal(number)
        try:
            self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        return self.process.returncode

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with self._log.open("ab") as log, stream:
            for line in stream:
                log.write(line)
                log.flush()
                self._take(line)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        with self._changed:
            self._lines = [*self._lines[1 - LAST_LINES :], line]
            if isinstance(event, dict):
                self._events[event.get("event", NAMELESS)] = event
            self._changed.notify_all()
