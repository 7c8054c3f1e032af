"""Who holds a port, as far as /proc tells: for the message of a busy port."""

import os
from pathlib import Path

_LISTENING = "0A"  # the state TCP_LISTEN in /proc/net/tcp


def port_holder(port: int) -> str:
    """`nginx (pid 812)`, or `another process` when it cannot be seen (it is another user's)."""
    inodes = _listening_inodes(port)
    if inodes:
        for process in Path("/proc").glob("[0-9]*"):
            if _sockets(process) & inodes:
                return f"{_name(process)} (pid {process.name})"
    return "another process"


def listens_on(pid: int, port: int) -> bool:
    """Whether this process has a listening socket of that port."""
    return bool(_sockets(Path(f"/proc/{pid}")) & _listening_inodes(port))


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(columns[9])
    return inodes


def _sockets(process: Path) -> set[str]:
    found = set()
    try:
        for descriptor in (process / "fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return found
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"
