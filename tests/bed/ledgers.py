"""The implementations of the port `Ledger`, one row each, and how a contract test looks behind them."""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from bed.fakes import FakeClock
from bed.mariadb import PrivateMariaDb
from broadcastd.ledgers.identity import Place
from broadcastd.ledgers.mysql import MysqlLedger, address
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.sqlite import SqliteLedger
from broadcastd.ports import Ledger, Opening


def guard(path: Path, *, longest_away_s: float = 86400, machine: str = "this machine") -> Guard:
    """Of a ledger in a test: the file outside its folder is outside nothing but the ledger's name."""
    return Guard(Place(machine, str(path)), path.parent / "identity", timedelta(seconds=longest_away_s))


class LedgerHome(Protocol):
    """Where one ledger lives; it is opened, killed and opened again."""

    clock: FakeClock
    ledger: Ledger
    opening: Opening

    async def open(self) -> None:
        """Open it, as a start of the daemon does."""

    async def kill(self) -> None:
        """Let go of it without settling anything, as a kill does."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Look at the tables from outside."""

    def run(self, sql: str) -> None:
        """Change them from outside."""


class SqliteHome:
    """Implements `LedgerHome` on one file."""

    ledger: SqliteLedger

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.path = folder / "ledger.db"
        self.clock = clock
        self._is_open = False

    async def open(self) -> None:
        self.ledger = SqliteLedger(self.path, self.clock, guard(self.path))
        await self.ledger.__aenter__()
        self._is_open = True
        self.opening = self.ledger.opening

    async def kill(self) -> None:
        if self._is_open:
            self._is_open = False
            await asyncio.shield(self.ledger.__aexit__(None, None, None))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as outside:
            return outside.execute(sql).fetchall()

    def run(self, sql: str) -> None:
        with closing(sqlite3.connect(self.path)) as outside, outside:
            outside.execute(sql)


class MysqlHome:
    """Implements `LedgerHome` in a database of its own in the private MariaDB."""

    ledger: MysqlLedger

    def __init__(self, server: PrivateMariaDb, folder: Path, clock: FakeClock) -> None:
        self.server = server
        self.database = server.new_database()
        self.url = server.url_of(self.database)
        self.clock = clock
        self._folder = folder
        self._is_open = False

    def guard(self) -> Guard:
        return Guard(
            Place("this machine", address(self.url)), self._folder / "identity", timedelta(seconds=86400)
        )

    async def open(self) -> None:
        self.ledger = MysqlLedger(self.url, self.clock, self.guard())
        await self.ledger.__aenter__()
        self._is_open = True
        self.opening = self.ledger.opening

    async def kill(self) -> None:
        if self._is_open:
            self._is_open = False
            await asyncio.shield(self.ledger.__aexit__(None, None, None))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.rows(sql, self.database)

    def run(self, sql: str) -> None:
        self.server.run(sql, self.database)


MakeHome = Callable[[Path, FakeClock], LedgerHome]


def _in_mariadb(request: pytest.FixtureRequest) -> MakeHome:
    return functools.partial(MysqlHome, request.getfixturevalue("mariadb"))


LEDGERS: Mapping[str, Callable[[pytest.FixtureRequest], MakeHome]] = {
    "sqlite": lambda _: SqliteHome,
    "mysql": _in_mariadb,
}
LEDGER_PARAMS = (
    pytest.param("sqlite"),
    "mysql",
)
