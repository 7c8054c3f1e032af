"""The audience table that a sync fills, and the row beside it that tells of its passes."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from broadcastd.async_engine import AsyncConnection
from broadcastd.audiences.engine import Database
from broadcastd.audiences.followers_schema import (
    SYNC,
    followers_table,
    make_tables,
    missing_tables,
    room_for_openids,
    unfit,
)
from broadcastd.clock import from_ms, to_ms
from broadcastd.errors import SyncLostError, TableUnfitError
from broadcastd.sync_ports import QUOTA_DAY, Claim, Pass, Stage, Standing, UserPage

T = TypeVar("T")

ROWS_IN_A_STATEMENT = 500
IDS_IN_A_SWEEP = 50_000
"""Rows that are looked through in one commit when the gone are marked: the site may write in between."""

_COUNTERS = ("pages", "seen", "inserted", "returned", "left_out", "total", "known", "top_id", "gone")


class SqlFollowersTable:
    """Implements `FollowersTable` over an account's database."""

    def __init__(self, database: Database, name: str, account: str, timezone: ZoneInfo) -> None:
        self._database = database
        self._name = name
        self._table = followers_table(name)
        self._account = account
        self._timezone = timezone
        self._holder = ""
        self._room = 0

    # -- what is there ---------------------------------------------------------------------------------

    async def standing(self, now: datetime) -> Standing:
        """See `FollowersTable`."""
        async with self._database.connection() as connection:
            missing = await connection.run_sync(missing_tables, self._name)
            lacks = [] if self._name in missing else await connection.run_sync(unfit, self._table)
            row = None if SYNC.name in missing else await self._row(connection)
            calls = 0 if SYNC.name in missing else await self._calls(connection, now)
        self._check(row, lacks)
        last = None if row is None or not row["pass_no"] else _pass(row)
        return Standing(last, calls, missing)

    def _check(self, row: sa.RowMapping | None, lacks: Sequence[str]) -> None:
        if lacks:
            raise TableUnfitError(
                f"the table {self._name} cannot be synchronised as it is:\n  " + "\n  ".join(lacks)
            )
        if row is not None and row["account"] != self._account:
            raise TableUnfitError(
                f"the table {self._name} holds the followers of account {row['account']}, not of"
                f" {self._account}: each would mark the other's as gone. If the account was renamed, change"
                f" its name in the table {SYNC.name}"
            )

    async def make(self) -> None:
        """See `FollowersTable`."""
        url = self._database.engine.url
        if url.get_backend_name() == "sqlite" and url.database:
            # An audience that there is none of yet: an empty file is a database without tables.
            await asyncio.to_thread(Path(unquote(url.database.removeprefix("file:"))).touch)
        async with self._database.connection() as connection:
            await connection.run_sync(make_tables, self._table)

    # -- who works on it -------------------------------------------------------------------------------

    async def claim(self, claim: Claim, now: datetime, has_ended: Callable[[str], bool]) -> Claim | None:
        """See `FollowersTable`."""
        async with self._database.transaction() as connection:
            self._room = await connection.run_sync(room_for_openids, self._name)
            row = await self._row(connection, lock=True)
            if row is None:
                mine = {"followers_table": self._name, "account": self._account}
                await connection.execute(sa.insert(SYNC).values(mine))
            other = self._in_the_way(row, now, has_ended)
            if other is None and (row is None or row["account"] == self._account):
                await self._write(connection, holder=claim.holder, held_until=to_ms(claim.until))
        self._check(row, ())
        if other is None:
            self._holder = claim.holder
        return other

    @staticmethod
    def _in_the_way(
        row: sa.RowMapping | None, now: datetime, has_ended: Callable[[str], bool]
    ) -> Claim | None:
        if row is None or not row["holder"] or row["held_until"] <= to_ms(now) or has_ended(row["holder"]):
            return None
        return Claim(row["holder"], from_ms(row["held_until"]))

    async def release(self) -> None:
        """See `FollowersTable`."""
        async with self._database.transaction() as connection:
            row = await self._row(connection, lock=True)
            if row is not None and row["holder"] == self._holder:
                await self._write(connection, holder="", held_until=0)

    # -- a pass ----------------------------------------------------------------------------------------

    async def begin(self, now: datetime) -> Pass:
        """See `FollowersTable`."""
        begun = None
        async with self._database.transaction() as connection:
            row = await self._held_row(connection)
            if row is not None:
                there = self._table.c
                known = sa.select(sa.func.count()).where(there.gone_at.is_(None))
                top = sa.select(sa.func.coalesce(sa.func.max(there.id), 0))
                begun = Pass(
                    row["pass_no"] + 1, Stage.LISTING, now, now,
                    known=(await connection.execute(known.select_from(self._table))).scalar_one(),
                    top_id=(await connection.execute(top)).scalar_one(),
                )  # fmt: skip
                await self._write(connection, **_values(begun))
        return self._kept(begun)

    async def count_call(self, now: datetime, until: datetime) -> int:
        """See `FollowersTable`."""
        calls = None
        async with self._database.transaction() as connection:
            row = await self._held_row(connection)
            if row is not None:
                today = _quota_day(now)
                so_far = row["calls"] if row["calls_day"] == today else 0
                await self._write(connection, calls_day=today, calls=so_far + 1, held_until=to_ms(until))
                calls = await self._calls(connection, now)
        return self._kept(calls)

    async def add(self, before: Pass, page: UserPage, now: datetime, *, is_last: bool) -> Pass:
        """See `FollowersTable`."""
        after = None
        async with self._database.transaction() as connection:
            row = await self._held_row(connection)
            if row is not None and not _stands_at(row, before):
                after = _pass(row)
            elif row is not None:
                after = await self._added(connection, before, page, now)
                if is_last:
                    after = dataclasses.replace(after, stage=Stage.LISTED)
                await self._write(connection, **_values(after))
        return self._kept(after)

    async def _added(self, connection: AsyncConnection, before: Pass, page: UserPage, now: datetime) -> Pass:
        fit = [one for one in dict.fromkeys(page.openids) if one and len(one) <= self._room]
        seen, inserted, returned = 0, 0, 0
        for openids in _batches(fit):
            known = await self._known(connection, openids)
            new = [one for one in openids if one not in known]
            await self._insert(connection, new, before.no, now)
            unseen = [one for one in known.values() if one["seen_pass"] != before.no]
            await self._mark_seen(connection, [one["id"] for one in unseen], before.no, now)
            seen += len(new) + len(unseen)
            inserted += len(new)
            returned += sum(one["gone_at"] is not None for one in unseen)
        return dataclasses.replace(
            before,
            touched_at=now,
            next_openid=page.next_openid,
            pages=before.pages + 1,
            seen=before.seen + seen,
            inserted=before.inserted + inserted,
            returned=before.returned + returned,
            left_out=before.left_out + sum(not one or len(one) > self._room for one in page.openids),
            total=page.total,
        )

    async def _known(self, connection: AsyncConnection, openids: Sequence[str]) -> dict[str, sa.RowMapping]:
        there = self._table.c
        query = sa.select(there.id, there.openid, there.gone_at, there.seen_pass)
        rows = await connection.execute(query.where(there.openid.in_(openids)))
        return {row["openid"]: row for row in rows.mappings()}

    async def _insert(
        self, connection: AsyncConnection, openids: Sequence[str], pass_no: int, now: datetime
    ) -> None:
        if openids:
            local = self._local(now)
            same = {"first_seen_at": local, "seen_at": local, "seen_pass": pass_no}
            # receive_status is left to its default. The drivers make one statement of many rows of it.
            await connection.execute(sa.insert(self._table), [{"openid": one, **same} for one in openids])

    async def _mark_seen(
        self, connection: AsyncConnection, ids: Sequence[int], pass_no: int, now: datetime
    ) -> None:
        if ids:
            seen = {"seen_at": self._local(now), "seen_pass": pass_no, "gone_at": None}
            await connection.execute(sa.update(self._table).where(self._table.c.id.in_(ids)).values(seen))

    # -- its end ---------------------------------------------------------------------------------------

    def _unseen_rows(self, seen: Pass) -> sa.ColumnElement[bool]:
        there = self._table.c
        return sa.and_(there.gone_at.is_(None), there.seen_pass < seen.no, there.id <= seen.top_id)

    async def unseen(self, seen: Pass) -> int:
        """See `FollowersTable`."""
        query = sa.select(sa.func.count()).select_from(self._table).where(self._unseen_rows(seen))
        async with self._database.connection() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def mark_gone(self, seen: Pass, now: datetime) -> Pass:
        """See `FollowersTable`."""
        gone = sa.update(self._table).where(self._unseen_rows(seen)).values(gone_at=self._local(now))
        done = seen
        after: int | None = None
        while (last := await self._end_of_block(after, seen.top_id)) is not None:
            block = self._table.c.id <= last
            if after is not None:
                block = sa.and_(block, self._table.c.id > after)
            done = self._kept(await self._swept(gone.where(block), done))
            after = last
        return await self._completed(done)

    async def _end_of_block(self, after: int | None, top_id: int) -> int | None:
        """The last id of the next IDS_IN_A_SWEEP rows; None when there are none left."""
        row_id = self._table.c.id
        query = sa.select(row_id).where(row_id <= top_id).order_by(row_id)
        query = query if after is None else query.where(row_id > after)
        block = query.limit(IDS_IN_A_SWEEP).subquery()
        async with self._database.connection() as connection:
            last: int | None = (await connection.execute(sa.select(sa.func.max(block.c.id)))).scalar()
        return last

    async def _completed(self, done: Pass) -> Pass:
        complete = dataclasses.replace(done, stage=Stage.COMPLETE)
        async with self._database.transaction() as connection:
            row = await self._held_row(connection)
            if row is not None:
                await self._write(connection, **_values(complete))
        return self._kept(complete if row is not None else None)

    async def _swept(self, statement: sa.Update, before: Pass) -> Pass | None:
        after = None
        async with self._database.transaction() as connection:
            if await self._held_row(connection) is not None:
                changed = (await connection.execute(statement)).rowcount
                after = dataclasses.replace(before, gone=before.gone + changed)
                await self._write(connection, gone=after.gone)
        return after

    # -- the row beside it -----------------------------------------------------------------------------

    async def _row(self, connection: AsyncConnection, *, lock: bool = False) -> sa.RowMapping | None:
        query = sa.select(SYNC).where(SYNC.c.followers_table == self._name)
        rows = await connection.execute(query.with_for_update() if lock else query)
        return rows.mappings().first()

    async def _held_row(self, connection: AsyncConnection) -> sa.RowMapping | None:
        """The row, locked; None when another has taken it."""
        row = await self._row(connection, lock=True)
        return row if row is not None and self._holder and row["holder"] == self._holder else None

    @staticmethod
    def _kept(value: T | None) -> T:
        """What a transaction came to: raised within it, an error would be taken for the database's."""
        if value is None:
            raise SyncLostError
        return value

    async def _write(self, connection: AsyncConnection, **values: Any) -> None:
        mine = sa.update(SYNC).where(SYNC.c.followers_table == self._name)
        await connection.execute(mine.values(values))

    async def _calls(self, connection: AsyncConnection, now: datetime) -> int:
        query = sa.select(sa.func.coalesce(sa.func.sum(SYNC.c.calls), 0)).where(
            SYNC.c.account == self._account, SYNC.c.calls_day == _quota_day(now)
        )
        return int((await connection.execute(query)).scalar_one())

    def _local(self, now: datetime) -> datetime:
        return now.astimezone(self._timezone).replace(tzinfo=None, microsecond=0)


def _quota_day(now: datetime) -> str:
    return now.astimezone(QUOTA_DAY).date().isoformat()


def _batches(openids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (openids[at : at + ROWS_IN_A_STATEMENT] for at in range(0, len(openids), ROWS_IN_A_STATEMENT))


def _stands_at(row: sa.RowMapping, one: Pass) -> bool:
    return (row["pass_no"], row["stage"], row["pages"]) == (one.no, one.stage.value, one.pages)


def _pass(row: sa.RowMapping) -> Pass:
    return Pass(
        no=row["pass_no"],
        stage=Stage(row["stage"]),
        begun_at=from_ms(row["begun_at"]),
        touched_at=from_ms(row["touched_at"]),
        next_openid=row["next_openid"],
        **{name: row[name] for name in _COUNTERS},
    )


def _values(one: Pass) -> dict[str, Any]:
    return {
        "pass_no": one.no,
        "stage": one.stage.value,
        "begun_at": to_ms(one.begun_at),
        "touched_at": to_ms(one.touched_at),
        "next_openid": one.next_openid,
        **{name: getattr(one, name) for name in _COUNTERS},
    }
