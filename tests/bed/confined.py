"""Runs a program under a unit's own limits where systemd does not run: its system calls, its address families
and its rule against writable code, as systemd would set them, by libseccomp.

    python confined.py UNIT COMMAND…
"""

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000  # SCMP_ACT_ALLOW
EQUAL, MASKED_EQUAL = 4, 7  # SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ
WRITE, EXECUTE = 2, 4  # PROT_WRITE, PROT_EXEC


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def refuse(number: int) -> int:
    """SCMP_ACT_ERRNO."""
    return 0x00050000 | number


def values(unit: Path, key: str) -> list[str]:
    """The words of a key, all its lines."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def allowed_calls(unit: Path) -> set[str]:
    """What SystemCallFilter leaves."""
    allowed: set[str] = set()
    for line in values(unit, "SystemCallFilter"):
        names = {name for word in line.removeprefix("~").split() for name in expanded(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def expanded(word: str) -> set[str]:
    """A group's calls, or the call itself."""
    if not word.startswith("@"):
        return {word}
    shown = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", word], capture_output=True, text=True, check=True
    )
    members = [line.strip() for line in shown.stdout.splitlines()[1:]]
    return {name for member in members if member[:1] not in ("", "#") for name in expanded(member)}


class Filters:
    """libseccomp."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._lib.seccomp_init.restype = ctypes.c_void_p

    def only(self, calls: set[str], families: list[int]) -> None:
        """These calls, sockets of these families; the rest is refused with EPERM."""
        context = self._new(refuse(errno.EPERM))
        for name in calls - {"socket"}:
            self._rule(context, ALLOW, name)
        for family in families:
            self._rule(context, ALLOW, "socket", Compare(0, EQUAL, family, 0))
        self._load(context)

    def no_writable_code(self) -> None:
        """MemoryDenyWriteExecute."""
        context = self._new(ALLOW)
        both = WRITE | EXECUTE
        self._rule(context, refuse(errno.EPERM), "mmap", Compare(2, MASKED_EQUAL, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            self._rule(context, refuse(errno.EPERM), name, Compare(2, MASKED_EQUAL, EXECUTE, EXECUTE))
        self._load(context)

    def _new(self, action: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(action)))

    def _rule(self, context: ctypes.c_void_p, action: int, name: str, *compare: Compare) -> None:
        number = self._lib.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            return  # of a newer kernel
        compared = (Compare * len(compare))(*compare)
        done = self._lib.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), number, len(compare), compared
        )
        if done != 0:
            raise OSError(-done, f"seccomp_rule_add {name}")

    def _load(self, context: ctypes.c_void_p) -> None:
        done = self._lib.seccomp_load(context)
        if done != 0:
            raise OSError(-done, "seccomp_load")


def main() -> None:
    """Lay the unit's limits on this process, and become the command."""
    unit, command = Path(sys.argv[1]), sys.argv[2:]
    families = [
        getattr(socket, name) for line in values(unit, "RestrictAddressFamilies") for name in line.split()
    ]
    calls = allowed_calls(unit)
    files = int(values(unit, "LimitNOFILE")[-1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(int(values(unit, "UMask")[-1], 8))
    for assignment in " ".join(values(unit, "Environment")).split():
        name, _, value = assignment.partition("=")
        os.environ[name] = value
    filters = Filters()
    assert values(unit, "MemoryDenyWriteExecute") == ["yes"]
    filters.no_writable_code()
    filters.only(calls, families)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
