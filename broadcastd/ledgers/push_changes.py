"""Pushes: durable and taken once, with all that they say of followers and deliveries, in one commit."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.ledgers import receipt_changes
from broadcastd.ledgers.receipt_changes import Finished
from broadcastd.ledgers.schema import followers, jobs, mass_chunks, pushes
from broadcastd.pushes import (
    WINDOWS,
    MassFinished,
    NewPush,
    Push,
    PushKind,
    SubscribeChosen,
    SubscribeSent,
    TemplateFinished,
    Unsubscribed,
    WaitingPush,
    Window,
)

NOT_FOLLOWING = 43004
"""The errcode that says of somebody what an unsubscribe event says."""

_KNOWN = ("window_until", "window_left", "closed_at", "gone_code", "gone_at", "refused_at", "opted_out_at")
_UNKNOWN: Mapping[str, Any] = {**dict.fromkeys(_KNOWN), "gone_code": 0}


def take(connection: sa.Connection, some: Sequence[NewPush], now: datetime) -> Sequence[bool]:
    """See `Ledger.take_pushes`."""
    new = _new_ones(connection, some)
    fresh = [one for one, is_new in zip(some, new, strict=True) if is_new]
    rows = [_row(one, to_ms(now)) for one in fresh if _kept(one.push)]
    if rows:
        connection.execute(sa.insert(pushes), rows)
    _note_followers(connection, fresh, to_ms(now))
    finished = [end for one in fresh for end in _ends(one)]
    receipt_changes.note_finished(connection, finished, now)
    for one in fresh:
        if isinstance(one.push, MassFinished):
            _note_mass(connection, one.account, one.push)
    return new


def _kept(push: Push) -> bool:
    """Whether it has a row of its own. A receipt that says which message is its own record."""
    if isinstance(push, TemplateFinished):
        return not push.msgid
    if isinstance(push, SubscribeSent):
        return not all(notice.msgid for notice in push.notices)
    return True


def _new_ones(connection: sa.Connection, some: Sequence[NewPush]) -> Sequence[bool]:
    known: set[tuple[str, str]] = set()
    by_account: dict[str, list[str]] = {}
    for one in some:
        if _kept(one.push):
            by_account.setdefault(one.account, []).append(one.push.dedupe_key)
    for account, keys in by_account.items():
        query = sa.select(pushes.c.dedupe_key).where(
            pushes.c.account == account, pushes.c.dedupe_key.in_(keys)
        )
        known |= {(account, key) for key in connection.execute(query).scalars()}
    new = []
    for one in some:
        key = one.account, one.push.dedupe_key
        new.append(key not in known)
        if _kept(one.push):
            known.add(key)
    return new


def _row(one: NewPush, now_ms: int) -> dict[str, Any]:
    return {
        "account": one.account,
        "dedupe_key": one.push.dedupe_key,
        "received_at": now_ms,
        "kind": one.kind.value,
        "body": _body(one.push),
        "applied_at": None if one.waits else now_ms,
    }


def _body(push: Push) -> dict[str, Any]:
    """What is worth keeping: the sender, and the facts of an event; never what somebody wrote."""
    body: dict[str, Any] = {"openid": push.openid}
    if isinstance(push, MassFinished):
        body |= {"msg_id": push.msg_id, **_result(push)}
    return body


def _result(push: MassFinished) -> dict[str, Any]:
    return {
        "status": push.status,
        "total": push.total,
        "filtered": push.filtered,
        "sent": push.sent,
        "errors": push.errors,
    }


def _note_mass(connection: sa.Connection, account: str, push: MassFinished) -> None:
    """The result of a chunk whose `msg_id` is known. One that is early is found in `pushes`."""
    of_account = mass_chunks.c.job_no.in_(sa.select(jobs.c.no).where(jobs.c.account == account))
    this = sa.and_(mass_chunks.c.msg_id == push.msg_id, of_account)
    connection.execute(sa.update(mass_chunks).where(this).values(result=_result(push)))


def _ends(one: NewPush) -> Iterable[Finished]:
    push, key = one.push, one.push.dedupe_key
    if isinstance(push, TemplateFinished):
        yield Finished(one.account, "template", push.msgid, push.openid, push.delivery, key)
    if isinstance(push, SubscribeSent):
        for at, notice in enumerate(push.notices):
            yield Finished(
                one.account, "subscribe", notice.msgid, push.openid, notice.delivery, f"{key} {at}"
            )


# -- followers ---------------------------------------------------------------------------------------------


def _says_something(one: NewPush) -> bool:
    consents = isinstance(one.push, SubscribeChosen) and any(each.accepted for each in one.push.choices)
    return consents or isinstance(one.push, Unsubscribed) or type(one.push) in WINDOWS


def _note_followers(connection: sa.Connection, some: Sequence[NewPush], now_ms: int) -> None:
    telling = [one for one in some if _says_something(one)]
    for account in {one.account for one in telling}:
        theirs = [one for one in telling if one.account == account]
        query = sa.select(followers).where(
            followers.c.account == account, followers.c.openid.in_([one.push.openid for one in theirs])
        )
        known = {row.openid: dict(row._mapping) for row in connection.execute(query)}
        new: dict[str, dict[str, Any]] = {}
        for one in theirs:
            openid = one.push.openid
            values = known.get(openid) or new.setdefault(
                openid, {"account": account, "openid": openid, **_UNKNOWN}
            )
            _learn(values, one, now_ms)
        if new:
            connection.execute(sa.insert(followers), list(new.values()))
        _update(connection, account, known)


def _update(connection: sa.Connection, account: str, known: Mapping[str, Mapping[str, Any]]) -> None:
    if not known:
        return
    this = sa.and_(followers.c.account == account, followers.c.openid == sa.bindparam("its_openid"))
    changes: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in _KNOWN}
    rows = [
        {"its_openid": openid, **{f"new_{name}": values[name] for name in _KNOWN}}
        for openid, values in known.items()
    ]
    connection.execute(sa.update(followers).where(this).values(changes), rows)


def _learn(values: dict[str, Any], one: NewPush, now_ms: int) -> None:
    """What one push says of its sender, into the columns of `followers`."""
    window = WINDOWS.get(type(one.push))
    if window is not None:
        _open_window(values, window, now_ms)
        values |= {"closed_at": None, "gone_code": 0, "gone_at": None}
    if isinstance(one.push, Unsubscribed):
        values |= {"gone_code": NOT_FOLLOWING, "gone_at": now_ms, "window_until": None, "window_left": None}
    if isinstance(one.push, SubscribeChosen):
        values["refused_at"] = None
    if one.kind is PushKind.OPT_OUT:
        values["opted_out_at"] = now_ms
    if one.kind is PushKind.OPT_IN:
        values["opted_out_at"] = None


def _open_window(values: dict[str, Any], window: Window, now_ms: int) -> None:
    """They do not add up: of two open windows the larger end counts, and the larger number."""
    until = now_ms + round(window.lasts.total_seconds() * 1000)
    is_open = values["window_until"] is not None and values["window_until"] > now_ms
    left = values["window_left"] or 0 if is_open else 0
    values["window_left"] = max(left, window.messages)
    values["window_until"] = max(values["window_until"] or 0, until) if is_open else until


# -- the site's statements ---------------------------------------------------------------------------------


def waiting(connection: sa.Connection, account: str, after: int, limit: int) -> Sequence[WaitingPush]:
    """See `Ledger.waiting_pushes`."""
    theirs = sa.and_(pushes.c.account == account, pushes.c.applied_at.is_(None), pushes.c.no > after)
    query = sa.select(pushes.c.no, pushes.c.kind, pushes.c.body).where(theirs).order_by(pushes.c.no)
    return [
        WaitingPush(row.no, PushKind(row.kind), row.body["openid"])
        for row in connection.execute(query.limit(limit))
    ]


def note_applied(connection: sa.Connection, numbers: Collection[int], now: datetime) -> None:
    """See `Ledger.note_applied`."""
    connection.execute(sa.update(pushes).where(pushes.c.no.in_(numbers)).values(applied_at=to_ms(now)))


def opted_out(connection: sa.Connection, account: str) -> Collection[str]:
    """See `Ledger.opted_out`."""
    query = sa.select(followers.c.openid).where(
        followers.c.account == account, followers.c.opted_out_at.is_not(None)
    )
    return set(connection.execute(query).scalars())
