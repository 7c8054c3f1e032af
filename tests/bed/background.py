"""A daemon in the background, by its own commands: `start`, `stop`, `status` …"""

import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bed.daemon import DaemonProcess
from bed.ports import eventually
from broadcastd.cli.main import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed, stdout and stderr together."""

    code: int
    text: str


class BackgroundDaemon(DaemonProcess):
    """Settings and a folder as `DaemonProcess`; the commands are those of an operator."""

    def run(self, command: str, *options: str | int) -> Said:
        """A command with the settings of this daemon, as a process of its own."""
        done = self.begin(command, *options)
        out, _ = done.communicate(timeout=60)
        return Said(done.returncode, out)

    def say(self, command: str, *options: str | int) -> Said:
        """The same within this process, which is cheaper: for commands that only talk to the daemon."""
        said, code = io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(said):
            try:
                main([command, "-c", str(self.settings), *map(str, options)])
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Said(code, said.getvalue())

    def begin(self, command: str, *options: str | int) -> "subprocess.Popen[str]":
        """The same, without waiting for its end. From a folder of its own: no path may depend on it."""
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        return subprocess.Popen(
            [self.python, "-m", "broadcastd", command, "-c", str(self.settings), *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=elsewhere,
        )  # fmt: skip

    def good(self, command: str, *options: str | int) -> str:
        """A command that must end with 0; what it printed. What starts one is a process of its own."""
        starts = command in ("start", "restart")
        said = self.run(command, *options) if starts else self.say(command, *options)
        assert said.code == 0, said.text + self.log
        return said.text

    @property
    def log(self) -> str:
        path = self.folder / "broadcastd.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def pid_file(self) -> Path:
        return self.folder / "broadcastd.pid"

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def status(self) -> tuple[int, dict[str, Any]]:
        """The exit code and the JSON of `status`."""
        said = self.say("status", "--json")
        found: dict[str, Any] = json.loads(said.text)
        return said.code, found

    def kill_it(self) -> None:
        """kill -9, and wait until it is gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid), what="it is gone")

    def close(self) -> None:
        with suppress(OSError, ValueError):
            os.kill(self.pid, signal.SIGKILL)
        super().close()


def is_gone(pid: int) -> bool:
    """Whether there is no such process, or only what nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def background_daemon(folder: Path, api: str, audience: str, **settings: Any) -> Iterator[BackgroundDaemon]:
    """Not started yet; whatever happens it is gone at the end."""
    daemon = BackgroundDaemon(folder, api, audience, **settings)
    try:
        yield daemon
    finally:
        daemon.close()
