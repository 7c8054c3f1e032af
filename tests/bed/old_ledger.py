"""A ledger of release 0.1.0 as a kill left it, in the middle of everything."""

import itertools
import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bed.site import openid
from broadcastd.frozen import pack_ids
from broadcastd.ledgers import migration
from broadcastd.model import Request

TABLES = Path(__file__).with_name("ledger_0_1_0.sql").read_text(encoding="utf-8")
MINUTE_MS = 60_000
YEAR_MS = 365 * 24 * 60 * MINUTE_MS

DONE, HALF_SENT, HELD, ACCEPTED, HALF_PLANNED = range(1, 6)
"""The jobs' numbers; their ids are `job_id` of these."""

IN_DOUBT = {HALF_SENT: 30, HALF_PLANNED: 10}
SENT_BEFORE = {HALF_SENT: 660, HALF_PLANNED: 90}
FOLLOWERS = 1500
"""How many the site has, for the ids below."""

Rows = Iterator[tuple[str, dict[str, Any]]]


def job_id(number: int) -> str:
    return f"j{number:015d}"


def content(number: int) -> str:
    return f"post {number} of the old days"


def sqlite_ledger(path: Path, more_outcomes: int = 0, now_ms: int | None = None) -> None:
    """Make it, with what is committed but still in the write-ahead file, as after a kill -9.

    `more_outcomes`: of a further, finished job 6, which makes it large.
    """
    made = path.with_name("made-" + path.name)
    with closing(sqlite3.connect(made)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(TABLES)
        old.execute("PRAGMA wal_autocheckpoint = 0")
        for table, row in _rows(now_ms or round(time.time() * 1000)):
            _insert(old, table, row)
        if more_outcomes:
            _make_large(old, more_outcomes)
        old.commit()
        for suffix in ("", "-wal"):
            shutil.copy(made.with_name(made.name + suffix), path.with_name(path.name + suffix))
    path.chmod(0o600)
    made.unlink()


def fill(connection: sa.Connection, now_ms: int) -> None:
    """The same in any database, which must be empty, or have the tables of version 0001."""
    if not sa.inspect(connection).has_table("meta"):
        migration.migrate(connection, migration.OF_0_1_0)
        connection.execute(sa.text("DROP TABLE alembic_version"))  # 0.1.0 had none
    for (table, names), alike in itertools.groupby(_rows(now_ms), lambda one: (one[0], tuple(one[1]))):
        columns = [sa.column(name) for name in names]
        connection.execute(sa.insert(sa.table(table, *columns)), [row for _, row in alike])


def _insert(old: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" * len(row))
    old.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def _make_large(old: sqlite3.Connection, outcomes: int) -> None:
    _insert(old, "jobs", _job(6, 4000 * MINUTE_MS, "done", recipients=outcomes, planned=1, finished_at=1))
    _insert(old, "tallies", _tally(6, "sent", "custom", 0, outcomes))
    old.executemany(
        "INSERT INTO outcomes VALUES (6, ?, ?, 'sent', 'custom', 0, 1)",
        ((one, openid(one)) for one in range(1, outcomes + 1)),
    )


def _rows(now_ms: int) -> Rows:
    yield "meta", {"name": "version", "value": "1"}
    yield "meta", {"name": "starts", "value": "7"}
    yield from _done(now_ms)
    yield from _half_sent(now_ms)
    held = {"reason": "errcode 48001", "recipients": 10, "planned": 1, "planned_through": 10}
    yield "jobs", _job(HELD, now_ms, "held", **held)
    yield "slices", _slice(HELD, 1, range(1, 11))
    yield "jobs", _job(ACCEPTED, now_ms, "accepted")
    yield from _half_planned(now_ms)


def _done(now_ms: int) -> Rows:
    at = now_ms - 30 * MINUTE_MS
    yield (
        "jobs",
        _job(DONE, now_ms, "done", key="order-1", recipients=3, planned=1, planned_through=3, finished_at=at),
    )
    yield "job_keys", _key(DONE, "key", "order-1", now_ms + YEAR_MS)
    yield "slices", _slice(DONE, 1, [1, 2, 3], state="done", mark=3)
    yield from _sent(DONE, [1, 2], at)
    yield "outcomes", _outcome(DONE, 3, "rejected", "template", 43004, at)
    yield "tallies", _tally(DONE, "rejected", "template", 43004, 1)


def _half_sent(now_ms: int) -> Rows:
    yield "jobs", _job(HALF_SENT, now_ms, "running", recipients=1500, planned=1, planned_through=1500)
    digest = Request(content(HALF_SENT)).digest()
    yield "job_keys", _key(HALF_SENT, "content", digest, now_ms + 10 * MINUTE_MS)
    yield "slices", _slice(HALF_SENT, 1, range(1, 501), state="done", mark=500)
    yield "slices", _slice(HALF_SENT, 2, range(501, 1001), mark=700, **_leased(now_ms))
    yield "slices", _slice(HALF_SENT, 3, range(1001, 1501))
    yield from _sent(HALF_SENT, range(1, 661), now_ms - MINUTE_MS)
    # 661 to 670 wait; 671 to 680 were about to be asked again, 681 to 700 were being asked: in doubt.
    for one in range(661, 681):
        yield "deferrals", {
            "job_no": HALF_SENT, "recipient_id": one, "slice_no": 2, "due_at": now_ms, "channel_no": 0,
            "tries": 1, "doubts": 0, "refusals": 0, "armed": int(one > 670),
        }  # fmt: skip


def _half_planned(now_ms: int) -> Rows:
    yield (
        "jobs",
        _job(HALF_PLANNED, now_ms, "running", recipients=500, planned_through=500, on_unknown="leave"),
    )
    yield "slices", _slice(HALF_PLANNED, 1, range(1, 501), mark=100, **_leased(now_ms))
    yield from _sent(HALF_PLANNED, range(1, 91), now_ms - MINUTE_MS)


def _job(number: int, now_ms: int, state: str, **about: Any) -> dict[str, Any]:
    started = None if state == "accepted" else now_ms - 50 * MINUTE_MS
    text = content(number)
    return {
        "no": number, "id": job_id(number), "account": "default", "state": state, "reason": "",
        "content": text, "phone": "", "channels": '["custom"]', "messages": json.dumps({"custom": text}),
        "on_unknown": "resend", "accepted_at": now_ms - 60 * MINUTE_MS, "started_at": started,
        "planned": 0, "recipients": 0, "in_doubt": 0, **about,
    }  # fmt: skip


def _key(number: int, kind: str, key: str, expires_at: int) -> dict[str, Any]:
    digest = Request(content(number)).digest()
    return {
        "account": "default", "kind": kind, "key": key, "flag": -1, "job_no": number, "digest": digest,
        "expires_at": expires_at,
    }  # fmt: skip


def _slice(number: int, no: int, ids: Iterable[int], **about: Any) -> dict[str, Any]:
    ids = list(ids)
    return {
        "job_no": number, "no": no, "first_id": ids[0], "last_id": ids[-1], "size": len(ids),
        "ids": pack_ids(ids), "state": "open", "due_at": 0, **about,
    }  # fmt: skip


def _leased(now_ms: int) -> dict[str, Any]:
    return {"state": "leased", "lease": 12345, "owner": "host:7", "lease_until": now_ms + MINUTE_MS}


def _sent(number: int, ids: Iterable[int], at: int) -> Rows:
    rows = [_outcome(number, one, "sent", "custom", 0, at) for one in ids]
    for row in rows:
        yield "outcomes", row
    yield "tallies", _tally(number, "sent", "custom", 0, len(rows))


def _outcome(number: int, who: int, outcome: str, channel: str, errcode: int, at: int) -> dict[str, Any]:
    return {
        "job_no": number, "recipient_id": who, "openid": openid(who), "outcome": outcome,
        "channel": channel, "errcode": errcode, "at": at,
    }  # fmt: skip


def _tally(number: int, outcome: str, channel: str, errcode: int, n: int) -> dict[str, Any]:
    return {"job_no": number, "outcome": outcome, "channel": channel, "errcode": errcode, "n": n}
