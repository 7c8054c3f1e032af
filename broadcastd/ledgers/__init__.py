"""Implementations of the port `Ledger`, one row each: which one it is, its url says."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broadcastd.clock import Clock
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers import backup, mysql, sqlite
from broadcastd.ledgers.migration import Age, Upgrade
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.sql import SqlLedger


@dataclass(frozen=True, slots=True)
class LedgerKind:
    """What can be done with a ledger by its url."""

    place: Callable[[str], str]
    """Where it is, without any secret."""
    build: Callable[[str, Clock, Guard], SqlLedger]
    make: Callable[[str], bool]
    """Make the tables of a new one; whether it was there before. Outside of any event loop."""
    upgrade: Callable[[str, datetime], Upgrade]
    """Bring one that no daemon works on to the present version. Outside of any event loop."""
    back_up: Callable[[str, Path], None]
    """Copy it to a new file while a daemon may be working on it. Raises LedgerUnavailableError."""


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///")).resolve()


def _dumped_by_its_server(url: str, target: Path) -> None:
    raise LedgerUnavailableError(
        f"the ledger in {mysql.address(url)} is backed up by its server's own tool:"
        f" mysqldump --single-transaction {url.rpartition('/')[2].partition('?')[0]} > {target}"
    )


LEDGERS: Mapping[str, LedgerKind] = {
    "sqlite": LedgerKind(
        place=lambda url: str(_path(url)),
        build=lambda url, clock, guard: sqlite.SqliteLedger(_path(url), clock, guard),
        make=lambda url: sqlite.make(_path(url)).age is not Age.NEW,
        upgrade=lambda url, now: sqlite.upgrade_file(_path(url), now),
        back_up=lambda url, target: backup.copy_to(_path(url), target),
    ),
    "mysql": LedgerKind(
        place=mysql.address,
        build=mysql.MysqlLedger,
        make=lambda url: asyncio.run(mysql.make(url)),
        upgrade=lambda url, now: asyncio.run(mysql.upgrade(url)),
        back_up=_dumped_by_its_server,
    ),
}


def kind_of(url: str) -> LedgerKind:
    """The row for a url that the settings have accepted."""
    return LEDGERS[url.partition(":")[0]]
