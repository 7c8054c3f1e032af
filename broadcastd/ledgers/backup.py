"""A whole copy of a SQLite ledger: before its schema is changed, or when an operator wants one."""

import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from broadcastd.errors import LedgerUnavailableError


def name_of(ledger: Path, version: str, now: datetime) -> Path:
    """Where the backup from before the upgrade to `version` is."""
    return ledger.with_name(f"{ledger.name}.before-{version}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}")


def made_before(ledger: Path, version: str) -> list[Path]:
    """The backups from before the upgrade to `version`."""
    folder = ledger.parent
    beginning = f"{ledger.name}.before-{version}-"
    return sorted(path for path in folder.iterdir() if path.name.startswith(beginning))


def back_up(ledger: Path, version: str, now: datetime) -> Path:
    """Copy the ledger; its copy, which is on disk then. Raises LedgerUnavailableError.

    It has its name only once it is whole: what a kill leaves of it is replaced by the next try.
    """
    target = name_of(ledger, version, now)
    partial = ledger.with_name(f"{ledger.name}.before-{version}.partial")
    try:
        try:
            _copy(ledger, partial)
            os.replace(partial, target)
            _sync(ledger.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailableError(
            f"the ledger {ledger} must be upgraded to version {version}, but its backup cannot be written"
            f" beside it: {error}. Nothing was changed; it needs {_megabytes(ledger)} MB of free space there"
        ) from error
    return target


def copy_to(ledger: Path, target: Path) -> None:
    """Copy the ledger, also from under a running daemon, to a file that is not there yet.

    It has its name only once it is whole and on disk. Raises LedgerUnavailableError.
    """
    if not ledger.is_file():
        raise LedgerUnavailableError(f"there is no ledger at {ledger}")
    partial = target.with_name(f"{target.name}.partial")
    try:
        if target.exists():
            raise LedgerUnavailableError(f"{target} exists already; a backup takes a new name")
        try:
            _copy(ledger, partial)
            os.rename(partial, target)
            _sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailableError(
            f"the backup {target} cannot be written: {error}; it needs {_megabytes(ledger)} MB of free space"
        ) from error


def _copy(ledger: Path, partial: Path) -> None:
    partial.unlink(missing_ok=True)
    # Made here, since SQLite would let others read it.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(sqlite3.connect(ledger)) as source,
        contextlib.closing(sqlite3.connect(partial)) as copy,
    ):
        # No journal beside it: a copy that is cut off is thrown away, and a whole one is synced below.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy)
    _sync(partial)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _megabytes(ledger: Path) -> int:
    size = 0
    for path in (ledger, ledger.with_name(ledger.name + "-wal")):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size // 1_000_000 + 1
