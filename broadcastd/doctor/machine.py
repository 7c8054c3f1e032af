"""Versions, time zones, open files."""

import importlib.metadata
import os
import platform
import resource
import sqlite3
import ssl
import zoneinfo
from datetime import UTC, datetime
from pathlib import Path

from broadcastd import __version__
from broadcastd.doctor.finding import Finding, Findings, fail, ok, warn
from broadcastd.doctor.subject import Subject
from broadcastd.settings import Settings

SQLITE_LEAST = (3, 38, 0)
"""From then on `json_each`, which every commit of outcomes uses, is built in."""
LIBRARIES = ("uvloop", "aiohttp", "asyncmy", "sqlalchemy", "cryptography")
SPARE = 200
"""Files beside connections: the ledger's, the databases', the log."""
SHANGHAI = ("Asia/Shanghai", 8)


async def versions(subject: Subject) -> Findings:
    """What it runs on."""
    del subject
    return [judge_sqlite(sqlite3.sqlite_version_info) or ok(_versions())]


def judge_sqlite(version: tuple[int, ...]) -> Finding | None:
    """Whether the embedded database has what the ledger needs."""
    if version >= SQLITE_LEAST:
        return None
    there, least = (".".join(map(str, one)) for one in (version, SQLITE_LEAST))
    return fail(f"SQLite {there}: the ledger needs {least} or later", "apt-get install libsqlite3-0")


def _versions() -> str:
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return (
        f"broadcastd {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION},"
        f" SQLite {sqlite3.sqlite_version}, {libraries}"
    )


async def time_zones(subject: Subject) -> Findings:
    """Whether this machine knows them."""
    del subject
    name, hours = SHANGHAI
    try:
        offset = datetime.now(UTC).astimezone(zoneinfo.ZoneInfo(name)).utcoffset()
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError) as error:
        return [fail(f"{name} is not known ({type(error).__name__})", "apt-get install tzdata")]
    if offset is None or offset.total_seconds() != hours * 3600:
        return [fail(f"{name} is taken for UTC{offset}", "apt-get install --reinstall tzdata")]
    system = next((one for one in zoneinfo.TZPATH if (Path(one) / name).exists()), None)
    return [ok(f"from {system or 'the package tzdata'}; {name} is UTC+{hours}")]


async def open_files(subject: Subject) -> Findings:
    """Whether the daemon may hold as many connections as its settings let in."""
    pid = await subject.daemon_pid()
    limit = _limit(pid)
    return [judge_open_files(limit, needed_files(subject.whole), pid)]


def needed_files(settings: Settings) -> int:
    """A file for each connection that the settings allow at the same time."""
    databases = sum(2 * account.audience.pool_size for account in settings.accounts.values())
    callbacks = any(account.callback is not None for account in settings.accounts.values())
    return (
        settings.server.max_connections
        + (settings.callback.max_connections if callbacks else 0)
        + settings.pool.tasks * settings.pool.sends_per_task
        + databases
        + SPARE
    )


def judge_open_files(limit: int, needed: int, pid: int | None) -> Finding:
    """`pid`: whose limit it is; None: that of this command, which a daemon started here would have."""
    whose = "the daemon" if pid is not None else "a daemon started from here"
    if limit >= needed:
        return ok(f"{whose} may have {limit:,} files open, and needs up to {needed:,}")
    return warn(
        f"{whose} may have {limit:,} files open, and would need {needed:,} if all connections that the"
        " settings allow were there",
        f"in the unit: LimitNOFILE={2 * needed}; from a shell: ulimit -n {2 * needed}",
    )


def _limit(pid: int | None) -> int:
    if pid is not None and pid != os.getpid():
        try:
            soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        except (OSError, PermissionError):
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31
