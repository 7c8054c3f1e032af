"""A disk that can be full: a small tmpfs where mounting is permitted, else a file-size limit."""

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.options import Options

BYTES_A_RECIPIENT = 400
"""Of a job in the ledger, generously (its outcome with the openid, its part of a slice, of the WAL)."""

ROOM_BYTES = 256 << 20
"""More than that is not needed; a tmpfs takes memory only for what is in it."""

SHRINK_TRIES = 50
_PAGE_BYTES = resource.getpagesize()


class Disk(Protocol):
    """Where the ledger lives."""

    name: str
    """In plain words, for the output."""
    can_fill: bool

    def full(self, pid: int) -> contextlib.AbstractContextManager[None]:
        """Nothing more can be written by the daemon `pid`."""

    def close(self) -> None:
        """Let go of it; what is in the ledger's folder stays readable there."""


class SmallTmpfs:
    """A tmpfs. It becomes full by shrinking to what is in it, which takes no memory."""

    can_fill = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mount(f"size={ROOM_BYTES}")
        self.name = "a small tmpfs that becomes full"

    @contextlib.contextmanager
    def full(self, pid: int) -> Iterator[None]:
        """See `Disk`."""
        del pid
        self._shrink()
        try:
            yield
        finally:
            self._mount(f"remount,size={ROOM_BYTES}")

    def close(self) -> None:
        """See `Disk`: what is in it moves below the mount."""
        kept = self._folder.with_name("ledger.kept")
        shutil.copytree(self._folder, kept, dirs_exist_ok=True)
        _run("umount", "-l", str(self._folder))
        shutil.copytree(kept, self._folder, dirs_exist_ok=True)
        shutil.rmtree(kept)

    def _shrink(self) -> None:
        for tries_left in reversed(range(SHRINK_TRIES)):
            there = os.statvfs(self._folder)
            used_bytes = (there.f_blocks - there.f_bfree) * there.f_frsize
            # The daemon writes meanwhile, and a size below what is in it is refused.
            try:
                self._mount(f"remount,size={used_bytes + _PAGE_BYTES}")
            except SelftestStoppedError:
                if not tries_left:
                    raise
            else:
                return

    def _mount(self, how: str) -> None:
        _run("mount", "-t", "tmpfs", "-o", f"mode=0700,{how}", "broadcastd-selftest", str(self._folder))


class SizeLimit:
    """RLIMIT_FSIZE of the daemon's process: every write to a file fails, as on a full disk."""

    can_fill = True
    name = "a file-size limit (RLIMIT_FSIZE) of the daemon"

    @contextlib.contextmanager
    def full(self, pid: int) -> Iterator[None]:
        """See `Disk`."""
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield
        finally:
            # It may have been killed meanwhile.
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def close(self) -> None:
        """See `Disk`."""


class NoFullDisk(SizeLimit):
    """Neither is possible here."""

    can_fill = False
    name = "left out: neither mounting nor limiting a process is permitted here"


def open_disk(options: Options, folder: Path) -> Disk:
    """The best that is possible here, or what was asked for: SelftestStoppedError when it cannot be had."""
    folder.mkdir()
    needed_bytes = BYTES_A_RECIPIENT * options.recipients * options.rounds
    if options.disk == "tmpfs" or (options.disk == "auto" and needed_bytes < ROOM_BYTES // 2):
        try:
            return SmallTmpfs(folder)
        except SelftestStoppedError:
            if options.disk == "tmpfs":
                raise
    if options.disk == "none":
        disk = NoFullDisk()
        disk.name = "left out, as asked for"
        return disk
    return SizeLimit() if _may_limit() else NoFullDisk()


def _may_limit() -> bool:
    try:
        resource.prlimit(os.getpid(), resource.RLIMIT_FSIZE)
    except (AttributeError, OSError):
        return False
    return True


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise SelftestStoppedError(f"{command[0]} failed: {why}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SelftestStoppedError(f"{command[0]} failed: {error}") from error
