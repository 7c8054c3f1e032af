"""Puts a daemon into the background, and waits until it serves or has said why not.

The one who launches stays in front of the terminal. A child takes on the rights, opens the log, becomes a
daemon (python-daemon), and says over a pipe how it went: nobody has to look into a log to see why not.
"""

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broadcastd.background.core_files import forbid_core_files
from broadcastd.background.identity import Identity
from broadcastd.background.log_file import LogFile
from broadcastd.background.pid_file import PidFile, holder
from broadcastd.errors import AlreadyRunningError, BroadcastdError, CannotStartError, SettingsError

MOST_SAID_BYTES = 65536
IGNORED = (signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGHUP)
"""SIGHUP until the daemon listens to it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is put into the background. Paths are absolute."""

    pid_file: Path
    log_file: Path
    umask: int
    working_dir: Path
    serve: Callable[["Background"], None]
    """Runs in the background until the daemon's end. Raises BroadcastdError."""
    identity: Identity | None = None
    sockets: Sequence[socket.socket] = field(default_factory=tuple)
    """Stay open in the daemon; with the launcher they are closed."""


@dataclass(frozen=True, slots=True)
class Background:
    """What the daemon has of its being in the background."""

    log_file: LogFile
    sockets: Sequence[socket.socket]
    """Those of the launch."""
    ready: Callable[[int], None]
    """The port answers."""


@dataclass(frozen=True, slots=True)
class Launched:
    """It serves."""

    pid: int
    port: int


class _Voice:
    """The daemon's end of the pipe. What is said first counts; then it is closed."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def say(self, **words: Any) -> None:
        if self.pipe >= 0:
            with suppress(OSError):  # nobody waits any more
                os.write(self.pipe, json.dumps(words).encode())
            os.close(self.pipe)
            self.pipe = -1


def launch(what: Launch) -> Launched:
    """Returns once it serves. Raises what kept it from that: CannotStartError, SettingsError and others."""
    check(what)
    listening, saying = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(listening)
        _be_the_daemon(what, _Voice(saying))
    os.close(saying)
    for one in what.sockets:
        one.close()
    with os.fdopen(listening, "rb") as pipe:
        said = pipe.read(MOST_SAID_BYTES)
    os.waitpid(child, 0)
    return _heard(said, what)


def check(what: Launch) -> None:
    """What can be seen before the fork. Raises BroadcastdError."""
    running = holder(what.pid_file)
    if running is not None:
        raise AlreadyRunningError(running, what.pid_file)
    check_folders(what)


def check_folders(what: Launch) -> None:
    """Make what may be made, and see that the rest is there. Raises CannotStartError."""
    for name, folder in (
        ("pid_file", what.pid_file.parent),
        ("log_file", what.log_file.parent),
        ("working_dir", what.working_dir),
    ):
        if what.identity is not None and name != "working_dir":
            what.identity.own(folder)
        if not folder.is_dir():
            raise CannotStartError(f"there is no folder {folder} (background.{name})")


def _heard(said: bytes, what: Launch) -> Launched:
    try:
        reply = json.loads(said)
    except ValueError:
        raise CannotStartError(f"the daemon ended during its start; see {what.log_file}") from None
    if "error" in reply:
        raise (SettingsError if reply["is_settings"] else CannotStartError)(reply["error"])
    return Launched(reply["pid"], reply["port"])


def _be_the_daemon(what: Launch, voice: _Voice) -> None:
    """Never returns: the rest of the launcher's program is none of its business."""
    code = 1
    try:
        _daemon(what, voice)
        code = 0
    except BroadcastdError as error:
        voice.say(error=str(error), is_settings=isinstance(error, SettingsError))
    except BaseException as error:
        voice.say(error=f"{type(error).__name__}: {error}; see {what.log_file}", is_settings=False)
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _daemon(what: Launch, voice: _Voice) -> None:
    import daemon  # type: ignore[import-untyped]  # noqa: PLC0415 - only who goes into the background pays for it

    os.umask(what.umask)  # of the log file, too
    if what.identity is not None:
        what.identity.assume()
    log_file = LogFile(what.log_file)
    pid_file = PidFile(what.pid_file)
    context = daemon.DaemonContext(
        detach_process=True,  # whoever started us: what init starts is not taken for a daemon already
        umask=what.umask,
        working_directory=str(what.working_dir),
        pidfile=pid_file,
        files_preserve=[voice.pipe, *what.sockets],
        stdout=log_file.stream,
        stderr=log_file.stream,
        signal_map={**dict.fromkeys(IGNORED), signal.SIGTERM: "terminate"},
    )
    try:
        context.open()
    except daemon.daemon.DaemonError as error:
        raise CannotStartError(f"it cannot go into the background: {error}") from error
    forbid_core_files()

    def ready(port: int) -> None:
        voice.say(pid=os.getpid(), port=port)
        pid_file.left_behind = True

    try:
        what.serve(Background(log_file, what.sockets, ready))
        pid_file.left_behind = False
    except BroadcastdError as error:
        print(f"broadcastd: {error}", file=sys.stderr)
        raise
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        context.close()
