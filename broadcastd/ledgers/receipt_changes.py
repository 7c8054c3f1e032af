"""Deliveries: who a message was for (the send side) and how it ended (WeChat's event), in either order.

Both halves meet in one row of `receipts`; the half that comes second counts it, in the same commit.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.batch import OutcomeRow
from broadcastd.clock import to_ms
from broadcastd.ledgers.plain_sql import Insert, plain_sql_of
from broadcastd.ledgers.schema import delivery_tallies, jobs, receipts
from broadcastd.pushes import Delivery

MOST_IN_A_QUERY = 500
_TALLY = Insert(
    "delivery_tallies", ("job_no", "channel", "status", "n"), ("job_no", "channel", "status"), "add"
)


_DELIVERIES = sa.select(delivery_tallies).where(
    delivery_tallies.c.job_no.in_(sa.bindparam("numbers", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Finished:
    """One message whose end an event reports."""

    account: str
    channel: str
    msgid: int
    openid: str
    delivery: Delivery
    dedupe_key: str


def note_sent(connection: sa.Connection, rows: Sequence[OutcomeRow]) -> None:
    """Note who the messages of these outcomes were for; count those whose end is known already."""
    sent = [row for row in rows if row.msgid]
    if not sent:
        return
    accounts = _accounts(connection, {row.job_no for row in sent})
    complete: list[tuple[int, str, str]] = []
    for (account, channel), some in _grouped(sent, lambda row: (accounts[row.job_no], row.channel)).items():
        for part in _parts(some):
            complete += _note_some(connection, account, channel, part)
    _count(connection, complete)


def _note_some(
    connection: sa.Connection, account: str, channel: str, rows: Sequence[OutcomeRow]
) -> Iterator[tuple[int, str, str]]:
    of_channel = sa.and_(receipts.c.account == account, receipts.c.channel == channel)
    known = _by_msgid(connection, of_channel, [row.msgid or 0 for row in rows])
    unnamed = _unnamed(connection, of_channel, [row.openid or "" for row in rows])
    new = []
    for row in rows:
        values = {"openid": row.openid, "job_no": row.job_no, "recipient_id": row.recipient_id}
        there = known.get(row.msgid or 0)
        if there is not None and there.job_no is not None:
            continue
        early = there or unnamed.pop(row.openid or "", None)
        if early is not None:
            yield row.job_no, channel, early.status
        if there is not None:
            this = sa.and_(of_channel, receipts.c.msgid == row.msgid)
            connection.execute(sa.update(receipts).where(this).values(**values))
            continue
        if early is not None:
            connection.execute(sa.delete(receipts).where(of_channel, receipts.c.msgid == early.msgid))
        status = "" if early is None else early.status
        key = {"account": account, "channel": channel, "msgid": row.msgid}
        new.append({**key, **values, "status": status, "at": to_ms(row.at)})
    if new:
        unique = {one["msgid"]: one for one in reversed(new)}
        connection.execute(sa.insert(receipts), list(unique.values()))


def note_finished(connection: sa.Connection, events: Sequence[Finished], now: datetime) -> None:
    """Note how messages ended. A message's first end stays."""
    complete: list[tuple[int, str, str]] = []
    for (account, channel), some in _grouped(events, lambda one: (one.account, one.channel)).items():
        of_channel = sa.and_(receipts.c.account == account, receipts.c.channel == channel)
        for part in _parts([one for one in some if one.msgid]):
            complete += _finish_some(connection, of_channel, part, to_ms(now))
        for one in some:
            if not one.msgid:
                complete += _finish_latest(connection, of_channel, one, to_ms(now))
    _count(connection, complete)


def _finish_some(
    connection: sa.Connection, of_channel: "sa.ColumnElement[bool]", events: Sequence[Finished], now_ms: int
) -> Iterator[tuple[int, str, str]]:
    first = {one.msgid: one for one in reversed(events)}
    known = _by_msgid(connection, of_channel, list(first))
    for msgid, row in known.items():
        one = first.pop(msgid)
        if not row.status:
            yield from _finish(connection, of_channel, row, one)
    if first:
        connection.execute(sa.insert(receipts), [_early(one, one.msgid, now_ms) for one in first.values()])


def _finish_latest(
    connection: sa.Connection, of_channel: "sa.ColumnElement[bool]", event: Finished, now_ms: int
) -> Iterator[tuple[int, str, str]]:
    """An event that does not say which message (MsgID 0): the follower's latest without an end."""
    theirs = sa.and_(of_channel, receipts.c.openid == event.openid, receipts.c.status == "")
    query = sa.select(receipts).where(theirs).order_by(receipts.c.at.desc(), receipts.c.msgid.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is not None:
        yield from _finish(connection, of_channel, row, event)
        return
    # Below zero: no message of WeChat's has such a number. The same for each try of this event.
    digest = hashlib.sha256(event.dedupe_key.encode(errors="replace")).digest()
    number = -(int.from_bytes(digest[:7], "big") + 1)
    if not _by_msgid(connection, of_channel, [number]):
        connection.execute(sa.insert(receipts), [_early(event, number, now_ms)])


def _finish(
    connection: sa.Connection, of_channel: "sa.ColumnElement[bool]", row: Any, event: Finished
) -> Iterator[tuple[int, str, str]]:
    this = sa.and_(of_channel, receipts.c.msgid == row.msgid)
    connection.execute(sa.update(receipts).where(this).values(status=event.delivery.value))
    if row.job_no is not None:
        yield row.job_no, event.channel, event.delivery.value


def _early(event: Finished, msgid: int, now_ms: int) -> dict[str, Any]:
    return {
        "account": event.account,
        "channel": event.channel,
        "msgid": msgid,
        "openid": event.openid,
        "status": event.delivery.value,
        "at": now_ms,
    }


def _by_msgid(
    connection: sa.Connection, of_channel: "sa.ColumnElement[bool]", msgids: Collection[int]
) -> dict[int, Any]:
    query = sa.select(receipts).where(of_channel, receipts.c.msgid.in_(msgids))
    return {row.msgid: row for row in connection.execute(query)}


def _unnamed(
    connection: sa.Connection, of_channel: "sa.ColumnElement[bool]", openids: Collection[str]
) -> dict[str, Any]:
    """Early events that did not say which message."""
    early = sa.and_(of_channel, receipts.c.openid.in_(openids), receipts.c.msgid < 0)
    return {row.openid: row for row in connection.execute(sa.select(receipts).where(early))}


def _accounts(connection: sa.Connection, job_nos: Collection[int]) -> Mapping[int, str]:
    query = sa.select(jobs.c.no, jobs.c.account).where(jobs.c.no.in_(job_nos))
    return {row.no: row.account for row in connection.execute(query)}


def _count(connection: sa.Connection, complete: Sequence[tuple[int, str, str]]) -> None:
    if complete:
        sums = Counter(complete)
        plain_sql_of(connection).insert(_TALLY, [(*what, n) for what, n in sums.items()])


def deliveries_of(
    connection: sa.Connection, job_nos: Sequence[int]
) -> Mapping[int, dict[str, dict[str, int]]]:
    """Job number to channel to status to how many."""
    found: dict[int, dict[str, dict[str, int]]] = {}
    for row in connection.execute(_DELIVERIES, {"numbers": job_nos}):
        found.setdefault(row.job_no, {}).setdefault(row.channel, {})[row.status] = row.n
    return found


def _grouped(rows: Sequence[Any], by: Any) -> Mapping[Any, list[Any]]:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    return groups


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[at : at + MOST_IN_A_QUERY] for at in range(0, len(rows), MOST_IN_A_QUERY))
