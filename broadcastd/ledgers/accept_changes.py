"""Takes jobs in: all that wait for the same commit, with hardly more statements than for one of them.

With statements of its own for each, the writer's thread would let go of the interpreter lock at every one,
and wait until the event loop gives it back; in MySQL every one would be a journey.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.errors import BroadcastdError, DeadlinePassedError, KeyConflictError
from broadcastd.ledgers.job_changes import move
from broadcastd.ledgers.plain_sql import plain_sql_of
from broadcastd.ledgers.rows import fresh_job, job_row, load_job, load_jobs
from broadcastd.ledgers.schema import WHOLE_AUDIENCE, jobs
from broadcastd.model import Hold, HoldKind, Job, NewJob
from broadcastd.ports import Accepted
from broadcastd.states import JobState

KEYS_KEPT = timedelta(days=365)
"""Payment providers repeat a call for a day; people retry an order's page much later."""
MOST_ROWS = 32
"""Of one statement. SQLite keeps a statement of each size compiled: 3 µs a row instead of 7."""
MOST_CHARACTERS = 100_000
"""Of one statement, unless a single row has more: the least that MySQL takes at once is 1 MB."""

Identity = tuple[str, str, str, int]
"""What makes two frames the same broadcast: account, kind, key and flag of a row of `job_keys`."""
Row = Mapping[str, Any]

# `key` is a word of SQL; both databases take MySQL's quotes.
_FIND_KEYS = (
    "SELECT `key`, job_no, digest, expires_at FROM job_keys"
    " WHERE account = ? AND kind = ? AND flag = ? AND `key` IN"
)
_DROP_KEY = "DELETE FROM job_keys WHERE account = ? AND kind = ? AND flag = ? AND `key` = ?"
_LAST_NUMBER = "SELECT coalesce(max(no), 0) FROM jobs"


@dataclass(frozen=True, slots=True)
class Offer:
    """A job that asks to be taken in."""

    job: NewJob
    dedupe_window: timedelta
    """How long a frame without a key is the same as another with its content; zero: never."""
    held_as: str = ""
    """Why what comes into a ledger in question is held from the start."""


@dataclass(frozen=True, slots=True)
class _Key:
    """By what the repeats of an offer are known."""

    identity: Identity
    digest: str
    now_ms: int
    expires_ms: int


@dataclass(slots=True)
class _Owner:
    """Whose an identity is."""

    digest: str
    job: Job | None = None
    """None: an offer of the same group, until it is inserted."""


def accept(connection: sa.Connection, offers: Sequence[Offer]) -> Sequence[Accepted | BroadcastdError]:
    """See `Ledger.accept`: of each offer, as if they came one by one. What that raises is a value here."""
    keys = [_key(offer) for offer in offers]
    owners = _former_owners(connection, keys)
    fresh: list[int] = []
    verdicts: dict[int, Accepted | BroadcastdError] = {}
    for at, (offer, key) in enumerate(zip(offers, keys, strict=True)):
        if key is not None and key.identity in owners:
            continue
        # Looked at here, not at the door: a known key is answered with its job, however late it comes again.
        deadline = offer.job.request.not_after
        if deadline is not None and deadline <= offer.job.accepted_at:
            verdicts[at] = DeadlinePassedError(deadline)
            continue
        fresh.append(at)
        if key is not None:
            owners[key.identity] = _Owner(key.digest)
    inserted = _insert(connection, [offers[at] for at in fresh])
    for at, job in zip(fresh, inserted, strict=True):
        verdicts[at] = Accepted(job, repeat=False)
        if (key := keys[at]) is not None:
            owners[key.identity].job = job
    _keep_keys(connection, [(keys[at], job) for at, job in zip(fresh, inserted, strict=True)])
    return [verdicts.get(at) or _repeat(owners, key) for at, key in enumerate(keys)]


def _key(offer: Offer) -> _Key | None:
    """None: whatever it says, it is no repeat."""
    job, request = offer.job, offer.job.request
    kept = offer.dedupe_window if request.key is None else KEYS_KEPT
    if not request.takes_key or not kept:
        return None
    digest = request.digest()
    kind, key = ("content", digest) if request.key is None else ("key", request.key)
    flag = WHOLE_AUDIENCE if request.flag is None else request.flag
    return _Key(
        (request.account, kind, key, flag), digest, to_ms(job.accepted_at), to_ms(job.accepted_at + kept)
    )


def _former_owners(connection: sa.Connection, keys: Sequence[_Key | None]) -> dict[Identity, _Owner]:
    """Those on disk. What has expired is forgotten."""
    asked = {key.identity: key for key in reversed(keys) if key is not None}
    digests, numbers = {}, {}
    for identity, (job_no, digest, expires_ms) in _rows_of(connection, asked):
        if expires_ms > asked[identity].now_ms:
            digests[identity], numbers[identity] = digest, job_no
        else:
            account, kind, key, flag = identity
            plain_sql_of(connection).rows(_DROP_KEY, [account, kind, flag, key])
    if not numbers:
        return {}
    these = sa.select(jobs).where(jobs.c.no.in_(set(numbers.values())))
    found = {job.no: job for job in load_jobs(connection, these)}
    return {identity: _Owner(digests[identity], found[no]) for identity, no in numbers.items()}


def _rows_of(
    connection: sa.Connection, asked: Iterable[Identity]
) -> Iterator[tuple[Identity, tuple[int, str, int]]]:
    """Job number, digest and end of those that are there; one query for all of an account, kind and flag."""
    alike: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    for account, kind, key, flag in asked:
        alike[account, kind, flag].append(key)
    for (account, kind, flag), some in alike.items():
        sql = f"{_FIND_KEYS} {_marks(some)}"
        found = plain_sql_of(connection).rows(sql, [account, kind, flag, *some])
        for key, job_no, digest, expires_ms in found:
            yield (account, kind, _text(key), flag), (job_no, digest, expires_ms)


def _repeat(owners: Mapping[Identity, _Owner], key: _Key | None) -> Accepted | BroadcastdError:
    assert key is not None
    owner = owners[key.identity]
    assert owner.job is not None
    if owner.digest != key.digest:
        return KeyConflictError(key.identity[2], owner.job.id)
    return Accepted(owner.job, repeat=True)


def _insert(connection: sa.Connection, offers: Sequence[Offer]) -> Sequence[Job]:
    if not offers:
        return ()
    # Nobody else inserts jobs. Asked for afterwards, the numbers would be a row each: SQLite's driver lets go
    # of the interpreter lock at every row.
    ((last,),) = plain_sql_of(connection).rows(_LAST_NUMBER, ())
    numbered = list(enumerate(offers, last + 1))
    _write(connection, "jobs", [{"no": no, **job_row(offer.job)} for no, offer in numbered])
    first_round = [
        {"job_no": no, "no": 1, "accepted_at": to_ms(offer.job.accepted_at)} for no, offer in numbered
    ]
    _write(connection, "rounds", first_round)
    return [_as_it_is(connection, no, offer) for no, offer in numbered]


def _as_it_is(connection: sa.Connection, no: int, offer: Offer) -> Job:
    if not offer.held_as:
        return fresh_job(no, offer.job)
    move(connection, no, JobState.HELD, offer.held_as, Hold(HoldKind.COPY))
    return load_job(connection, no)


def _keep_keys(connection: sa.Connection, taken_in: Sequence[tuple[_Key | None, Job]]) -> None:
    rows = [
        {
            **dict(zip(("account", "kind", "key", "flag"), key.identity, strict=True)),
            "job_no": job.no,
            "digest": key.digest,
            "expires_at": key.expires_ms,
        }
        for key, job in taken_in
        if key is not None
    ]
    _write(connection, "job_keys", rows)


def _write(connection: sa.Connection, table: str, rows: Sequence[Row]) -> None:
    """Insert rows, all with the same columns."""
    for part in _parts(rows):
        columns = ", ".join(f"`{name}`" for name in part[0])
        values = ", ".join([_marks(part[0])] * len(part))
        flat = [value for row in part for value in row.values()]
        plain_sql_of(connection).rows(f"INSERT INTO {table} ({columns}) VALUES {values}", flat)  # noqa: S608 - our names


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    part: list[Row] = []
    characters = 0
    for row in rows:
        size = sum(len(value) for value in row.values() if isinstance(value, str))
        if part and (len(part) == MOST_ROWS or characters + size > MOST_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(row)
        characters += size
    if part:
        yield part


def _marks(values: Collection[Any]) -> str:
    return f"({', '.join('?' * len(values))})"


def _text(value: str | bytes) -> str:
    """MySQL keeps exact texts as bytes."""
    return value.decode() if isinstance(value, bytes) else value
