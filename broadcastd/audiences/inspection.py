"""How an account's database stands to what is asked of it, for `doctor`. Reads only; facts, no judgments."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import lt
from typing import Any

import sqlalchemy as sa

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.audiences.now_kind import NowKind, compared_column
from broadcastd.audiences.sql import IDS_IN_A_BLOCK, SqlAudience
from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AccountSettings

SLICE = 500
"""Recipients of a slice: the plan is asked for a pull of so many."""
WHOLE = "ALL"
"""A table that is read from one end to the other, in EXPLAIN's word."""
OF_INDEX = "index"
"""The same for an index."""


MOST = 2**63
"""Below it a number has 64 bits."""


class Flaw(StrEnum):
    """What an id must not be."""

    MISSING = "NULL"
    NO_NUMBER = "no whole number"
    TOO_LARGE = "beyond 64 bits"
    REPEATED = "repeated"
    UNORDERED = "out of order"


@dataclass(frozen=True, slots=True)
class Server:
    """What a database says of itself."""

    version: str
    took_s: float
    """From nothing to an answer."""
    cipher: str = ""
    """Of the connection's TLS; empty: none."""
    ahead_s: float | None = None
    """How far our clock is ahead of the server's; None where it is the same one."""
    zone: str = ""
    """The session's, as +08:00."""
    read_only: bool = False
    lag_s: int | None = None
    """Of a replica, where it may be asked."""
    wait_timeout_s: int | None = None
    most_connections: int | None = None
    """Of this user; None: no bound of its own."""


@dataclass(frozen=True, slots=True)
class Step:
    """One table of a query's plan, in EXPLAIN's words."""

    table: str
    access: str
    rows: int | None = None
    key: str = ""
    extra: str = ""
    derived: bool = False
    """It is worked out whole before the bounds of a slice apply."""


@dataclass(slots=True)
class Ids:
    """What one pass over the eligible ids saw."""

    count: int = 0
    whole: bool = False
    took_s: float = 0.0
    flaws: Counter[Flaw] = field(default_factory=Counter)
    examples: dict[Flaw, str] = field(default_factory=dict)
    first: int | None = None
    last_of_slice: int | None = None
    last: int | None = None

    def take_all(self, values: Sequence[Any]) -> None:
        """The next ones. Those that are well go by without a step of Python each: there may be a million."""
        well = set(map(type, values)) == {int} and all(map(lt, values, values[1:]))
        if not (well and self.last is not None and self.last < values[0] and values[-1] < MOST):
            for value in values:
                self.take(value)
            return
        if self.count < SLICE:
            self.last_of_slice = values[min(SLICE - self.count, len(values)) - 1]
        self.count += len(values)
        self.last = values[-1]

    def take(self, value: Any) -> None:
        """The next id, as the database gives it."""
        self.count += 1
        number = _number(value)
        if isinstance(number, Flaw):
            self._note(number, repr(value))
            return
        if self.last is not None and number <= self.last:
            same = number == self.last
            self._note(
                Flaw.REPEATED if same else Flaw.UNORDERED,
                str(number) if same else f"{number} after {self.last}",
            )
        if self.first is None:
            self.first = number
        if self.count <= SLICE:
            self.last_of_slice = number
        self.last = number

    def _note(self, flaw: Flaw, example: str) -> None:
        self.flaws[flaw] += 1
        self.examples.setdefault(flaw, example[:80])


@dataclass(frozen=True, slots=True)
class Openids:
    """Of the eligible rows. The examples are ids."""

    rows: int
    empty: int
    repeated: int
    """Rows beyond each openid's first."""
    empty_example: str = ""
    repeated_example: str = ""


class Inspection:
    """One account's database, looked at. Every method raises AudienceUnavailableError."""

    def __init__(self, database: Database, settings: AccountSettings) -> None:
        self._database = database
        self._settings = settings
        self._audience = SqlAudience(database, settings)
        self.is_mysql = database.engine.dialect.name == "mysql"

    async def server(self) -> Server:
        """Connect and ask."""
        begun_s = time.monotonic()
        async with self._database.connection() as connection:
            if not self.is_mysql:
                version = (await connection.exec_driver_sql("SELECT sqlite_version()")).scalar_one()
                await connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
                return Server(f"SQLite {version}", time.monotonic() - begun_s)
            asked_at = time.time()
            row = (await connection.exec_driver_sql(_OF_SERVER)).one()
            between = (asked_at + time.time()) / 2
            took_s = time.monotonic() - begun_s
            status = await connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            cipher = status.mappings().first()
        return Server(
            version=str(row.version),
            took_s=took_s,
            cipher=str(cipher["Value"]) if cipher else "",
            ahead_s=between - float(row.unix),
            zone=_zone(int(row.zone_s)),
            read_only=bool(row.is_read_only),
            lag_s=await self._lag_s(),
            wait_timeout_s=int(row.silence_s),
            most_connections=int(row.most) or None,
        )

    async def _lag_s(self) -> int | None:
        try:
            async with self._database.connection() as connection:
                found = (await connection.exec_driver_sql("SHOW SLAVE STATUS")).mappings().first()
        except AudienceUnavailableError:
            return None  # that takes a right which a user for reading need not have
        lag = None if found is None else found.get("Seconds_Behind_Master")
        return None if lag is None else int(lag)

    async def ids(self, now: datetime, ids: Ids) -> None:
        """Read all eligible ids as the planner does, into `ids`; broken off, it holds what was seen."""
        begun_s = time.monotonic()
        statements = await self._audience.statements()
        values = self._audience.values(statements, now)
        async with self._database.blocks(statements.all, values, IDS_IN_A_BLOCK) as blocks:
            async for block in blocks:
                ids.take_all([row[0] for row in block])
                ids.took_s = time.monotonic() - begun_s
        ids.whole = True
        ids.took_s = time.monotonic() - begun_s

    async def openids(self, now: datetime) -> Openids:
        """Count the empty and the repeated ones."""
        statements = await self._audience.statements()
        values = self._audience.values(statements, now)
        # Byte by byte: most of MySQL's orders take A for a, and openids do not.
        exact = f"CAST(openid AS {'BINARY' if self.is_mysql else 'BLOB'})"
        async with self._database.connection() as connection:
            row = (await connection.execute(statements.over(_COUNTS.format(exact=exact)), values)).one()
            rows, empty, distinct = int(row[0]), int(row[1] or 0), int(row[2])
            repeated = rows - empty - distinct
            example = None
            if repeated:
                last = f" GROUP BY {exact} HAVING count(*) > 1 LIMIT 1"
                query = statements.over("min(id)", f" WHERE openid <> ''{last}")
                example = (await connection.execute(query, values)).scalar()
        return Openids(rows, empty, repeated, _shown(row[3]), _shown(example))

    async def plan_of_pull(self, now: datetime, first: int, last: int) -> list[Step]:
        """How a slice between two ids would be read."""
        statements = await self._audience.statements()
        values = self._audience.values(statements, now, first=first, last=last)
        return await self._plan(statements.pull, values)

    async def plan_of_planning(self, now: datetime) -> list[Step]:
        """How the pass over all ids would be."""
        statements = await self._audience.statements()
        return await self._plan(statements.all, self._audience.values(statements, now))

    async def plan_of(self, statement: str, openid: str) -> list[Step]:
        """How a statement of the callback would be carried out. It is not."""
        return await self._plan(own_statement(statement, "openid"), {"openid": openid})

    async def _plan(self, statement: sa.TextClause, values: dict[str, Any]) -> list[Step]:
        how = "EXPLAIN FORMAT=TRADITIONAL" if self.is_mysql else "EXPLAIN QUERY PLAN"
        async with self._database.connection() as connection:
            found = await connection.execute(sa.text(f"{how} {statement.text}"), values)
            rows = [dict(row) for row in found.mappings()]
        return [_step(row) for row in rows] if self.is_mysql else _steps_of_sqlite(rows)

    async def now_kind(self) -> tuple[NowKind, str | None] | None:
        """What `:now` is, and the column that it is compared with; None: the query has none."""
        statements = await self._audience.statements()
        if not statements.takes_now:
            return None
        return statements.kind, compared_column(self._settings.audience.query)

    async def grants(self) -> list[tuple[str, str]]:
        """What this user may do, and on what. The server's own lines may hold a password's hash."""
        async with self._database.connection() as connection:
            rows = (await connection.exec_driver_sql("SHOW GRANTS")).all()
        lines = [str(next(iter(row))) for row in rows]
        found = [re.match(r"GRANT (.+?) ON (.+?) TO ", line) for line in lines]
        return [(one[1], one[2]) for one in found if one is not None]


_OF_SERVER = (
    "SELECT version() AS version, UNIX_TIMESTAMP(NOW(6)) AS unix, @@global.read_only AS is_read_only,"
    " TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW()) AS zone_s, @@session.wait_timeout AS silence_s,"
    " @@session.max_user_connections AS most"
)
_COUNTS = (
    "count(*), sum(CASE WHEN openid IS NULL OR openid = '' THEN 1 ELSE 0 END),"
    " count(DISTINCT CASE WHEN openid <> '' THEN {exact} END),"
    " min(CASE WHEN openid IS NULL OR openid = '' THEN id END)"
)
_MADE = r"(?:MATERIALIZE|CO-ROUTINE) (\S+)"
"""Here SQLite works out what is then read like a table; MySQL calls such a one <derived2>."""


def _number(value: Any) -> int | Flaw:
    if value is None:
        return Flaw.MISSING
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return Flaw.NO_NUMBER
    if not isinstance(value, str) and number != value:
        return Flaw.NO_NUMBER
    return number if -MOST <= number < MOST else Flaw.TOO_LARGE


def _shown(value: Any) -> str:
    return "" if value is None else str(value)[:80]


def _zone(seconds: int) -> str:
    minutes = round(abs(seconds) / 60)
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _step(row: dict[str, Any]) -> Step:
    kind = str(row.get("select_type") or "")
    table = str(row.get("table") or "")
    return Step(
        table=table,
        access=str(row.get("type") or ""),
        rows=None if row.get("rows") is None else int(row["rows"]),
        key=str(row.get("key") or ""),
        extra=str(row.get("Extra") or ""),
        derived="DERIVED" in kind or "UNION" in kind,
    )


def _steps_of_sqlite(rows: Sequence[dict[str, Any]]) -> list[Step]:
    """SQLite's lines are a tree: what is below a MATERIALIZE or CO-ROUTINE is worked out for itself."""
    derived: set[int] = set()
    made = {found[1] for row in rows if (found := re.match(_MADE, str(row["detail"])))}
    steps = []
    for row in rows:
        detail = str(row["detail"])
        if detail.startswith(("MATERIALIZE", "CO-ROUTINE", "COMPOUND")) or row["parent"] in derived:
            derived.add(row["id"])
        found = re.match(r"(SCAN|SEARCH) (?:TABLE )?(\S+)(.*)", detail)
        if found is not None:
            index = re.search(r"INDEX (\S+)", found[3])
            whole = OF_INDEX if index is not None else WHOLE
            steps.append(
                Step(
                    table=f"<{found[2]}>" if found[2] in made else found[2],
                    access=whole if found[1] == "SCAN" else "range",
                    key=index[1] if index is not None else "",
                    extra=found[3].strip(),
                    derived=row["parent"] in derived,
                )
            )
    return steps
