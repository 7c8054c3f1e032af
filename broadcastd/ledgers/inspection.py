"""How a ledger is, seen beside the daemon that may be at work on it, for `doctor`.

Nothing is written, and the daemon's lock is never tried: a daemon that starts meanwhile must not find it
taken.
"""

import asyncio
import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from broadcastd.async_engine import create_async_engine
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers import migration
from broadcastd.ledgers.groups import DATABASE_ERRORS, cause
from broadcastd.ledgers.identity import Identity, IdentityFile, Place, why_a_copy
from broadcastd.ledgers.migration import Age, Found
from broadcastd.ledgers.mysql import address
from broadcastd.ledgers.mysql_link import lock_name
from broadcastd.ledgers.opening_changes import identity_of
from broadcastd.mysql_engine import hang_up_at_once

LOCKS = Path("/proc/locks")
VARIABLES = (
    "innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "max_allowed_packet", "version", "read_only",
    "transaction_isolation", "tx_isolation", "innodb_doublewrite",
)  # fmt: skip
STEPS = 10_000
"""SQLite's own, between two looks at the time: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a ledger says of itself."""

    found: Found
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """What its server says beside that."""

    seen: Seen
    variables: Mapping[str, str]
    cipher: str
    in_use: bool
    """A daemon has the lock."""


def copied(own: Identity | None, place: Place, folder: Path) -> str:
    """Why the next start would take a ledger for a copy; else empty. Raises LedgerUnavailableError."""
    if own is None:
        return ""
    return why_a_copy(own, place, IdentityFile(folder, own.ledger).read())


# -- a file -------------------------------------------------------------------------------------------------


def look_at_file(path: Path) -> Seen:
    """Raises LedgerUnavailableError. A file that is not there is a new ledger."""
    if not path.exists():
        return Seen(Found(Age.NEW))
    engine = sa.create_engine("sqlite://", creator=lambda: _opened(path), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return _seen(connection)
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        why = cause(error) if isinstance(error, sa.exc.SQLAlchemyError) else error
        raise LedgerUnavailableError(f"the ledger {path} cannot be read: {why}") from error


def quick_check(path: Path, most_s: float) -> list[str] | None:
    """What SQLite finds wrong with the file's pages and rows; None: not through with it in time.

    Raises LedgerUnavailableError.
    """
    until_s = time.monotonic() + most_s
    try:
        with contextlib.closing(_opened(path)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > until_s, STEPS)
            lines = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return None
        raise LedgerUnavailableError(f"the ledger {path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if lines == ["ok"] else lines


def _opened(path: Path) -> sqlite3.Connection:
    """For reading. Without its write-ahead file nobody is at work on it: then not even that one is made."""
    alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro{alone}", uri=True, check_same_thread=False)


def lock_holder(path: Path) -> int | None:
    """The process that has a ledger's file to itself, as the kernel says; None: nobody that can be seen."""
    try:
        there = path.with_name(path.name + ".lock").stat()
        lines = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    device = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}:{there.st_ino}"
    for line in lines:
        found = re.match(r"\d+: FLOCK +\S+ +WRITE (\d+) (\S+) ", line)
        if found is not None and found[2] == device:
            return int(found[1])
    return None


# -- a server -----------------------------------------------------------------------------------------------


async def look_at_server(url: str, most_s: float) -> ServerSeen:
    """Raises LedgerUnavailableError."""
    engine = create_async_engine(
        sa.make_url(url).set(drivername="mysql+asyncmy").update_query_dict({"charset": "utf8mb4"}),
        connect_args={"connect_timeout": most_s},
        poolclass=NullPool,
    )
    hang_up_at_once(engine.sync_engine)
    place = address(url)
    try:
        async with asyncio.timeout(most_s), engine.connect() as connection:
            return await connection.run_sync(_server_seen)
    except TimeoutError as error:
        raise LedgerUnavailableError(f"{place} does not answer within {most_s:g} s") from error
    except DATABASE_ERRORS as error:
        raise LedgerUnavailableError(f"{place} cannot be read: {cause(error)}") from error
    finally:
        await engine.dispose()


def _server_seen(connection: sa.Connection) -> ServerSeen:
    names = ", ".join(f"'{name}'" for name in VARIABLES)
    variables = dict(_pairs(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
    cipher = dict(_pairs(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")).get("Ssl_cipher", "")
    database = str(connection.exec_driver_sql("SELECT DATABASE()").scalar())
    holder = connection.exec_driver_sql("SELECT IS_USED_LOCK(%s)", (lock_name(database),)).scalar()
    return ServerSeen(_seen(connection), variables, cipher, holder is not None)


def _pairs(connection: sa.Connection, sql: str) -> Iterator[tuple[str, Any]]:
    for row in connection.exec_driver_sql(sql):
        yield str(row[0]), str(row[1])


def _seen(connection: sa.Connection) -> Seen:
    found = migration.state_of(connection)
    return Seen(found, None if found.age is Age.NEW else identity_of(connection))
