"""Whether a pid is the daemon's: what stands in a file, or comes over a port, is only somebody's word.

The folder of the pid file is the daemon's user's, and a port belongs to whoever has opened it first. Root may
signal every process, so it looks at what the kernel says before it does.
"""

import os
import re
from pathlib import Path

from broadcastd.wire.port_holder import listens_on

_UIDS = re.compile(r"^Uid:\t(\d+)\t(\d+)\t", re.MULTILINE)
_LOCKED = re.compile(r"^lock:.*\bFLOCK\b.*\bWRITE\b", re.MULTILINE)


def doubt_of_file(pid: int, pid_file: Path) -> str:
    """Why a process is not the one that holds a locked pid file; empty: it is, or the kernel guards us."""
    if os.geteuid() != 0:
        return ""  # nobody else's process can be signalled
    try:
        there = pid_file.lstat()
        if not _holds(pid, there):
            return f"{pid_file} names it, and another process has locked that file"
        if _uids(pid) != {there.st_uid}:
            return f"{pid_file} belongs to uid {there.st_uid}, and the process does not"
    except OSError as error:
        return f"{error.filename} cannot be looked at: {error.strerror}"
    return ""


def doubt_of_port(pid: int, port: int) -> str:
    """Why a process is not the one that answers on a port of this machine; empty as above."""
    if os.geteuid() != 0 or listens_on(pid, port):
        return ""
    return f"whoever answers on port {port} names it, and it does not listen there"


def _holds(pid: int, there: os.stat_result) -> bool:
    """Whether it has the file open, and locked through that descriptor."""
    process = Path(f"/proc/{pid}")
    for descriptor in (process / "fd").iterdir():
        try:
            if not os.path.samestat(descriptor.stat(), there):
                continue
            if _LOCKED.search((process / "fdinfo" / descriptor.name).read_text(encoding="ascii")):
                return True
        except FileNotFoundError:
            continue  # closed meanwhile
    return False


def _uids(pid: int) -> set[int]:
    """Its real and its effective one."""
    found = _UIDS.search(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"))
    return {int(uid) for uid in found.groups()} if found is not None else set()
