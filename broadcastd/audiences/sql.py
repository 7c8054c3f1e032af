"""An audience that the site's own query yields, wrapped: a slice's query lives here."""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AccountSettings

IDS_IN_A_BLOCK = 5000


class SqlAudience:
    """Implements `Audience` over the account's database."""

    def __init__(self, database: Database, settings: AccountSettings) -> None:
        self._database = database
        self._timezone = ZoneInfo(settings.timezone)
        self._unix = settings.audience.now == "unix"
        query = settings.audience.query
        if not self._unix and database.engine.dialect.name == "mysql":
            # A typed value: beside a column of numbers it matches nobody. A bare text would match everybody.
            query = re.sub(r":now\b", "CAST(:now AS DATETIME)", query)
        audience = f"FROM ({query}) AS audience"
        # Both bounds: the primary key serves it, whatever other indexes there are.
        self._pull = self._statement(
            f"SELECT id, openid {audience} WHERE id >= :first AND id <= :last ORDER BY id"
        )
        self._all = self._statement(f"SELECT id {audience} ORDER BY id")
        self._above = self._statement(f"SELECT id {audience} WHERE id > :after ORDER BY id")
        self._page = self._statement(f"SELECT id {audience} ORDER BY id LIMIT :size OFFSET :skip")
        self._count = self._statement(f"SELECT count(*) {audience}")

    def _statement(self, sql: str) -> sa.TextClause:
        return own_statement(sql, "now", "first", "last", "after", "size", "skip")

    def _values(self, statement: sa.TextClause, now: datetime, **values: int) -> dict[str, Any]:
        bound: dict[str, Any] = dict(values)
        if re.search(r"(?<!\\):now\b", statement.text):
            local = now.astimezone(self._timezone)
            bound["now"] = int(now.timestamp()) if self._unix else local.strftime("%Y-%m-%d %H:%M:%S")
        return bound

    @contextlib.asynccontextmanager
    async def ids(self, now: datetime, after: int | None) -> AsyncIterator[AsyncIterator[Sequence[int]]]:
        """See `Audience`. One server-side cursor: memory stays flat whatever the audience."""
        if after is None:
            statement, values = self._all, self._values(self._all, now)
        else:
            statement, values = self._above, self._values(self._above, now, after=after)
        async with self._database.blocks(statement, values, IDS_IN_A_BLOCK) as blocks:
            yield _ids_of(blocks)

    async def page(self, now: datetime, page_no: int, page_size: int) -> Sequence[int]:
        """See `Audience`."""
        rows = await self._rows(self._page, now, size=page_size, skip=page_no * page_size)
        return [_number(row[0]) for row in rows]

    async def pull(self, now: datetime, first: int, last: int) -> Sequence[tuple[int, str]]:
        """See `Audience`."""
        rows = await self._rows(self._pull, now, first=first, last=last)
        return [(_number(row[0]), str(row[1] or "")) for row in rows]

    async def count(self, now: datetime) -> int:
        """See `Audience`."""
        return int((await self._rows(self._count, now))[0][0])

    async def _rows(self, statement: sa.TextClause, now: datetime, **values: int) -> Sequence[Any]:
        async with self._database.connection() as connection:
            return (await connection.execute(statement, self._values(statement, now, **values))).all()


async def _ids_of(blocks: AsyncIterator[Sequence[Any]]) -> AsyncIterator[Sequence[int]]:
    async for block in blocks:
        yield [_number(row[0]) for row in block]


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise AudienceUnavailableError(
            f"the audience query yields an id that is no whole number: {value!r}"
        ) from error
