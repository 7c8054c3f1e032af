"""The pid file: a lock of the kernel, held for life, and in it the pid alone.

The lock dies with the process, so a file that a kill left behind is no obstacle.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from broadcastd.background.log_file import closed_folder
from broadcastd.errors import AlreadyRunningError, CannotStartError

LOCK_TRIES = 20
LOCK_PAUSE_S = 0.05
"""Somebody who only looks (`holder`) has the lock for a moment."""
READABLE = 0o644
"""Whoever asks for the status may read it, whatever the umask."""


class PidFile:
    """A context manager, entered by the daemon itself once it is in the background.

    Raises AlreadyRunningError and CannotStartError. At its end the file is removed, unless `left_behind`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self.left_behind = False
        """The daemon has died: the file stays, so that `status` can tell that from a stop."""

    def __enter__(self) -> Self:
        try:
            self._file = self._locked()
            if os.fstat(self._file).st_uid != os.geteuid():
                os.fchown(self._file, os.geteuid(), os.getegid())  # left behind by one with other rights
            os.fchmod(self._file, READABLE)
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())
        except OSError as error:
            words = f"the pid file {self._path} cannot be written: {error.strerror} (background.pid_file)"
            if isinstance(error, PermissionError):
                words += closed_folder("pid_file", self._path, "/run/broadcastd")
            raise CannotStartError(words) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.left_behind:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._file)

    def _locked(self) -> int:
        """Its descriptor, once the lock is ours and the file is still the one of this name."""
        for left in reversed(range(LOCK_TRIES)):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(self._path, flags, READABLE)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(file, self._path):
                    return file
            except BlockingIOError:
                if not left:
                    raise AlreadyRunningError(_pid(self._path), self._path) from None
                time.sleep(LOCK_PAUSE_S)
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise AlreadyRunningError(None, self._path)


def holder(path: Path) -> int | None:
    """The pid of the daemon that holds it now; None: nobody does, or it cannot be seen."""
    try:
        # Whoever may write into its folder can put a link or a pipe there: it is not followed, or waited for.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(path)
    except OSError:
        return None
    finally:
        os.close(file)
    return None


def _pid(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _is(file: int, path: Path) -> bool:
    """Whether the one before us has not removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
