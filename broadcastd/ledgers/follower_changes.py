"""What is known of followers: read for a slice, written with what answers have taught. On the hot path."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from broadcastd.batch import Learned
from broadcastd.clock import from_ms, to_ms
from broadcastd.errcodes import Note
from broadcastd.ledgers.plain_sql import Insert, PlainSql, plain_sql_of
from broadcastd.ledgers.schema import followers
from broadcastd.model import Known

_FOLLOWER = ("account", "openid")
_COLUMNS = ("window_until", "window_left", "closed_at", "gone_code", "gone_at", "refused_at")
_KNOWN = (
    f"SELECT openid, {', '.join(_COLUMNS)} FROM followers"  # noqa: S608 - our names
    " WHERE account = ? AND openid IN"
)
_CLOSED = Insert("followers", (*_FOLLOWER, "window_until", "window_left", "closed_at"), _FOLLOWER, "change")
_GONE = Insert("followers", (*_FOLLOWER, "gone_code", "gone_at"), _FOLLOWER, "change")
_REFUSED = Insert("followers", (*_FOLLOWER, "refused_at"), _FOLLOWER, "change")

_HEARD_WELL: Mapping[Note, str] = {
    # In this order: MySQL reckons with what the assignment before has made of the row.
    Note.CLOSED: "UPDATE followers SET closed_at = NULL,"
    " window_until = CASE WHEN window_left > 0 AND window_until > {now_ms} THEN window_until END,"
    " window_left = CASE WHEN window_left > 0 AND window_until > {now_ms} THEN window_left - 1 END"
    " WHERE account = ? AND openid IN",
    Note.GONE: "UPDATE followers SET gone_code = 0, gone_at = NULL WHERE account = ? AND openid IN",
    Note.NO_CONSENT: "UPDATE followers SET refused_at = NULL WHERE account = ? AND openid IN",
}
"""What a message that was accepted makes of a guess: it was wrong, or one message fewer is left."""


def known(connection: sa.Connection, account: str, openids: Sequence[str]) -> Mapping[str, Known]:
    """See `Ledger.known`."""
    if not openids:
        return {}
    rows = plain_sql_of(connection).among(_KNOWN, account, openids)
    return {
        _text(openid): Known(
            _moment(until), left, _moment(closed), gone_code, _moment(gone), _moment(refused)
        )
        for openid, until, left, closed, gone_code, gone, refused in rows
    }


def _text(openid: str | bytes) -> str:
    """MySQL's driver hands out the bytes of an exact text."""
    return openid.decode() if isinstance(openid, bytes) else openid


def _moment(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else from_ms(moment_ms)


def learn(sql: PlainSql, learned: Sequence[Learned]) -> None:
    """Write what answers said, the later one of the same person last."""
    for some in _turns(learned):
        refusals = [one for one in some if one.errcode]
        closed = [one for one in refusals if one.note is Note.CLOSED]
        gone = [one for one in refusals if one.note is Note.GONE]
        refused = [one for one in refusals if one.note is Note.NO_CONSENT]
        if closed:
            sql.insert(_CLOSED, [(one.account, one.openid, None, None, to_ms(one.at)) for one in closed])
        if gone:
            sql.insert(_GONE, [(one.account, one.openid, one.errcode, to_ms(one.at)) for one in gone])
        if refused:
            sql.insert(_REFUSED, [(one.account, one.openid, to_ms(one.at)) for one in refused])
        for (note, account), taken in _by_note(one for one in some if not one.errcode).items():
            now_ms = to_ms(taken[-1].at)
            sql.among(_HEARD_WELL[note].format(now_ms=now_ms), account, [one.openid for one in taken])


def _turns(learned: Sequence[Learned]) -> Iterable[Sequence[Learned]]:
    """In each, one person is named once a note: two jobs may reach somebody at the same time."""
    turns: list[list[Learned]] = []
    seen: defaultdict[tuple[str, str, Note], int] = defaultdict(int)
    for one in learned:
        who = one.account, one.openid, one.note
        if seen[who] == len(turns):
            turns.append([])
        turns[seen[who]].append(one)
        seen[who] += 1
    return turns


def _by_note(learned: Iterable[Learned]) -> Mapping[tuple[Note, str], Sequence[Learned]]:
    found: defaultdict[tuple[Note, str], list[Learned]] = defaultdict(list)
    for one in learned:
        found[one.note, one.account].append(one)
    return found


def forget(
    connection: sa.Connection, before: datetime, after: tuple[str, str] | None, limit: int
) -> tuple[int, tuple[str, str] | None]:
    """See `Ledger.forget_followers`."""
    who = (followers.c.account, followers.c.openid)
    times = [followers.c[name] for name in ("window_until", "closed_at", "gone_at", "refused_at")]
    query = sa.select(*who, *times, followers.c.opted_out_at).order_by(*who).limit(limit)
    if after is not None:
        account, openid = after
        query = query.where(
            sa.or_(who[0] > account, sa.and_(who[0] == account, who[1] > openid)), who[0] >= account
        )
    rows = connection.execute(query).all()
    before_ms = to_ms(before)
    stale = [
        (account, openid)
        for account, openid, *at, opted_out_at in rows
        if opted_out_at is None and all(one is None or one <= before_ms for one in at)
    ]
    if stale:
        this = sa.and_(who[0] == sa.bindparam("its_account"), who[1] == sa.bindparam("its_openid"))
        values = [{"its_account": account, "its_openid": openid} for account, openid in stale]
        connection.execute(sa.delete(followers).where(this), values)
    last = (rows[-1].account, rows[-1].openid) if len(rows) == limit else None
    return len(stale), last
