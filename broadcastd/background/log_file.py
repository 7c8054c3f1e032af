"""The file that the daemon's log goes to, which may be moved away and opened again."""

import os
import sys
from pathlib import Path
from typing import TextIO

from broadcastd.errors import CannotStartError

MODE = 0o640


def closed_folder(key: str, path: Path, better: str) -> str:
    """What to do where the daemon's user may not write; `better`: a folder that `start` makes for it."""
    return (
        f"; the daemon's user may not write into {path.parent}. In [background] of the settings, say"
        f' {key} = "{better}/{path.name}": that folder is made where it is missing'
    )


class LogFile:
    """Opened for appending. The daemon's stdout and stderr are descriptors of it."""

    def __init__(self, path: Path) -> None:
        """Raises CannotStartError."""
        self._path = path
        try:
            self.stream: TextIO = os.fdopen(self._open(), "a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            words = f"the log file {path} cannot be written: {error.strerror} (background.log_file)"
            if isinstance(error, PermissionError):
                words += closed_folder("log_file", path, "/var/log/broadcastd")
            raise CannotStartError(words) from error

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, MODE)

    def reopen(self) -> None:
        """Go on in the file that has the name now. Raises OSError, and goes on in the old one."""
        file = self._open()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file, stream.fileno())
        os.close(file)
