"""The spool: a private directory, one file a frame, for many processes at once. POSIX only.
NAME.json waits; NAME begins with its time in ns. NAME.refused was set aside for what NAME.reason says."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Union

from broadcastd_client.wire import Frame, Refused

StrPath = Union[str, "os.PathLike[str]"]
STALE_NS = 24 * 3600 * 10**9  # a post of yesterday is for a person to decide
ORPHANED_NS = 60 * 10**9  # a `.tmp` this old was left by a process that died


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold the flock of `path`. Raises BlockingIOError when another process has it and not `wait`."""
    import fcntl  # noqa: PLC0415 - not on Windows, where all but the spool and the mail works

    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing does not, while a child forked meanwhile has a copy


def opened(path: StrPath) -> Path:
    """The spool at `path`, made if missing. Raises OSError, also for a place others may meddle with."""
    folder = Path(os.path.abspath(path))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.lstat()
    if folder.is_symlink() or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise PermissionError(f"spool {path} must be no link, belong to uid {os.geteuid()}, have mode 0700")
    return folder


def put(folder: Path, line: bytes) -> None:
    """Keep a frame: on disk when this returns."""
    file = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.tmp"
    with file.open("xb") as target:
        target.write(line)
        target.flush()
        os.fsync(target.fileno())
    file.rename(file.with_suffix(".json"))
    for changed in (folder, folder.parent):  # the parent, as the spool itself may be new
        with suppress(PermissionError):  # a parent that may be entered and not read was not made here
            fd = os.open(changed, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)


def waiting(folder: Path, old: bool) -> tuple[list[Path], int]:
    """What to send, oldest first, and how many more wait for `old`, being over 24 h old."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.tmp")])
    begins = {file: file.name[:20] for file in files}
    ages = {file: time.time_ns() - int(begin) if begin.isdecimal() else 0 for file, begin in begins.items()}
    frames = [file for file in files if file.suffix == ".json" or ages[file] > ORPHANED_NS]
    due = [file for file in frames if old or ages[file] <= STALE_NS]
    return due, len(frames) - len(due)


def load(file: Path) -> Frame:
    """The frame in `file`. Raises Refused when there is none."""
    try:
        frame = json.loads(file.read_bytes())
        return {**frame, "key": frame["key"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Refused(f"{file.name} holds no frame: {error!r}", {}) from error


def set_aside(file: Path, reason: object) -> None:
    """Keep what cannot be sent as it is, with the reason beside it."""
    file.with_suffix(".reason").write_text(str(reason), "utf-8", "replace")
    file.rename(file.with_suffix(".refused"))
