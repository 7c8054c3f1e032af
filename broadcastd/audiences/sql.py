"""An audience that the site's own query yields, wrapped: a slice's query lives here."""

import contextlib
import re
from array import array
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from broadcastd.audiences.engine import Database, Row, own_statement
from broadcastd.audiences.now_kind import NowKind, now_kind
from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AccountSettings

IDS_IN_A_BLOCK = 5000


class SqlAudience:
    """Implements `Audience` over the account's database."""

    def __init__(self, database: Database, settings: AccountSettings) -> None:
        self._database = database
        self._timezone = ZoneInfo(settings.timezone)
        self._settings = settings.audience
        self._known: Statements | None = None

    async def statements(self) -> "Statements":
        """Built at the first use: what `:now` is depends on the site's own columns."""
        if self._known is None:
            now = self._settings.now
            kind = await now_kind(self._database, self._settings.query) if now == "auto" else now
            is_mysql = self._database.engine.dialect.name == "mysql"
            self._known = Statements(self._settings.query, kind, typed=is_mysql)
        return self._known

    def values(self, statements: "Statements", now: datetime, **values: int) -> dict[str, Any]:
        """What a statement takes: `values`, and `:now` where the query has one."""
        if not statements.takes_now:
            return dict(values)
        local = now.astimezone(self._timezone)
        unix = statements.kind == "unix"
        return {**values, "now": int(now.timestamp()) if unix else local.strftime("%Y-%m-%d %H:%M:%S")}

    @contextlib.asynccontextmanager
    async def ids(self, now: datetime, after: int | None) -> AsyncIterator[AsyncIterator[Sequence[int]]]:
        """See `Audience`. One server-side cursor: memory stays flat whatever the audience."""
        statements = await self.statements()
        statement = statements.all if after is None else statements.above
        values = self.values(statements, now, **({} if after is None else {"after": after}))
        async with self._database.blocks(statement, values, IDS_IN_A_BLOCK) as blocks:
            yield _ids_of(blocks)

    async def page(self, now: datetime, page_no: int, page_size: int) -> Sequence[int]:
        """See `Audience`."""
        rows = await self._rows("page", now, size=page_size, skip=page_no * page_size)
        return _numbers([row[0] for row in rows]).tolist()

    async def pull(self, now: datetime, first: int, last: int) -> Sequence[tuple[int, str]]:
        """See `Audience`."""
        rows = await self._rows("pull", now, first=first, last=last)
        return _people(rows)

    async def count(self, now: datetime, through: int | None = None) -> int:
        """See `Audience`."""
        if through is None:
            return int((await self._rows("count", now))[0][0])
        return int((await self._rows("count_through", now, through=through))[0][0])

    async def _rows(self, name: str, now: datetime, **values: int) -> Sequence[Row]:
        statements = await self.statements()
        statement: sa.TextClause = getattr(statements, name)
        return await self._database.rows(statement, self.values(statements, now, **values))


class Statements:
    """The site's query, wrapped in every way it is asked."""

    def __init__(self, query: str, kind: NowKind, *, typed: bool) -> None:
        self.kind = kind
        self.takes_now = re.search(r":now\b", query) is not None
        if kind == "datetime" and typed:
            # A typed value: beside a column of numbers it matches nobody. A bare text would match everybody.
            query = re.sub(r":now\b", "CAST(:now AS DATETIME)", query)
        audience = f"FROM ({query}) AS audience"
        # Both bounds: the primary key serves it, whatever other indexes there are.
        self.pull = _own(f"SELECT id, openid {audience} WHERE id >= :first AND id <= :last ORDER BY id")
        self.all = _own(f"SELECT id {audience} ORDER BY id")
        self.above = _own(f"SELECT id {audience} WHERE id > :after ORDER BY id")
        self.page = _own(f"SELECT id {audience} ORDER BY id LIMIT :size OFFSET :skip")
        self.count = _own(f"SELECT count(*) {audience}")
        self.count_through = _own(f"SELECT count(*) {audience} WHERE id <= :through")
        self._audience = audience

    def over(self, what: str, how: str = "") -> sa.TextClause:
        """Another question about the audience; `what` and `how` are SQL of our own."""
        return _own(f"SELECT {what} {self._audience}{how}")


def _own(sql: str) -> sa.TextClause:
    return own_statement(sql, "now", "first", "last", "after", "size", "skip", "through")


async def _ids_of(blocks: AsyncIterator[Sequence[Any]]) -> AsyncIterator[Sequence[int]]:
    async for block in blocks:
        yield _ids([row[0] for row in block])


def _people(rows: Sequence[Row]) -> Sequence[tuple[int, str]]:
    """The rows of a pull."""
    if all(type(one) is int and type(openid) is str for one, openid in rows):
        return cast(Sequence[tuple[int, str]], rows)
    return [(_number(row[0]), str(row[1] or "")) for row in rows]


def _ids(values: Sequence[Any]) -> Sequence[int]:
    """The ids of a block, ascending. Raises AudienceUnavailableError for what is no id.

    All ids of an audience pass here: their sum is a whole number when each of them is one, and costs 5 ns an
    id, where a look at the type of each is 15.
    """
    try:
        are_whole = type(sum(values)) is int
    except TypeError:
        are_whole = False
    ends = (values[0], values[-1])
    return values if are_whole and all(-(2**63) <= one < 2**63 for one in ends) else _numbers(values)


def _numbers(values: Sequence[Any]) -> "array[int]":
    """Ids as they are kept: 8 bytes each. Raises AudienceUnavailableError for what does not fit."""
    try:
        # The array looks at type and size of each, in 16 ns.
        return array("q", values)
    except (TypeError, OverflowError):
        return array("q", map(_number, values))


def _number(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise AudienceUnavailableError(
            f"the audience query yields an id that is no whole number: {value!r}"
        ) from error
    if number != (value if not isinstance(value, str) else number) or not -(2**63) <= number < 2**63:
        raise AudienceUnavailableError(
            f"the audience query yields an id that is no whole number of 64 bits: {value}"
        )
    return number
