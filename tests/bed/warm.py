"""Starts of `python -m broadcastd …` without its imports, which are most of what a start costs.

One process a worker has imported them, and does nothing but fork. Each child is a process with the arguments,
folder, environment and files of its own, from the program's first line to its exit. What a start costs or
survives, what it takes of memory, and `/proc/PID/cmdline` need a real one: `cold=True`.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

TESTS = Path(__file__).parents[1]
IMPORTED = (
    "rich.progress",
    "uvloop",
    "broadcastd.activation",
    "broadcastd.app",
    "broadcastd.background.core_files",
    "broadcastd.cli.main",
    "broadcastd.cli.audience",
    "broadcastd.cli.run",
    "broadcastd.sandbox",
    "broadcastd.sync_app",
    "broadcastd.log",
    "broadcastd.notify",
    "broadcastd.precautions",
    "broadcastd.settings_file",
)
FRAME_BYTES = 1 << 20
"""More than any environment."""


class Started(Protocol):
    """What tests use of a process, as `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class WarmProcess:
    """A child of the warm process. `ended`: where its exit code will come."""

    def __init__(self, pid: int, ended: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Its exit code, or minus the signal's number; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._has_ended(timeout):
            said = self._ended.recv(FRAME_BYTES)
            self._ended.close()
            assert said, "the warm process is gone"
            self.returncode = int(said)
        return self.returncode

    def _has_ended(self, timeout: float | None) -> bool:
        poll = select.poll()  # not select: a worker that has run for long may have thousands of files open
        poll.register(self._ended, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))


class WarmStarts:
    """The warm process; started with the first child."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def run(
        self,
        arguments: Sequence[str],
        output: int,
        errors: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """`python -m broadcastd ARGUMENTS…`, as if started here. `output`, `errors`: descriptors; errors go
        where the output goes, and the environment is this process's, unless they are given."""
        line = self._line or self._open()
        ended, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far_end:
            environment = dict(environment or os.environ)
            frame = {"arguments": arguments, "cwd": os.getcwd(), "environment": environment}
            files = [output, output if errors is None else errors, far_end.fileno()]
            socket.send_fds(line, [json.dumps(frame).encode()], files)
            return WarmProcess(int(line.recv(FRAME_BYTES)), ended)

    def close(self) -> None:
        if self._line is not None and self._process is not None:
            self._line.close()
            self._process.wait(30)

    def _open(self) -> socket.socket:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bed.warm", str(theirs.fileno())],
                cwd=TESTS, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        return self._line


@contextmanager
def warm_starts() -> Iterator[WarmStarts]:
    """Ready to start something; gone at the end, and what it started is not."""
    starts = WarmStarts()
    try:
        yield starts
    finally:
        starts.close()


def serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for each frame. Returns in the child, with the frame; None when the line is closed."""
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([line, *children], [], [])
        for pidfd in ready:
            if pidfd is not line:
                _tell_end(pidfd, *children.pop(pidfd))
        if line not in ready:
            continue
        said, files, _, _ = socket.recv_fds(line, FRAME_BYTES, 3)
        if not said:
            return None
        output, errors, ended = files
        pid = os.fork()
        if not pid:
            os.dup2(output, 1)
            os.dup2(errors, 2)
            for mine in (line, *(ended for _, ended in children.values())):
                mine.detach()
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            frame: dict[str, Any] = json.loads(said)
            return frame
        os.close(output)
        os.close(errors)
        children[os.pidfd_open(pid)] = pid, socket.socket(fileno=ended)
        line.send(str(pid).encode())


def _tell_end(pidfd: int, pid: int, ended: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    with ended, suppress(BrokenPipeError):  # nobody may want to know
        ended.send(str(os.waitstatus_to_exitcode(status)).encode())


def main() -> None:
    """The warm process, and each of its children."""
    sys.path.remove(str(TESTS))
    for name in IMPORTED:
        __import__(name)
    on_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    frame = serve(socket.socket(fileno=int(sys.argv[1])))
    if frame is None:
        return
    signal.signal(signal.SIGINT, on_ctrl_c)
    os.environ.clear()
    os.environ.update(frame["environment"])
    os.chdir(frame["cwd"])
    # As the interpreter makes them: whether one can be sought in depends on the file.
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115
    sys.argv = ["broadcastd", *frame["arguments"]]
    runpy.run_module("broadcastd", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
