"""What a start of the daemon finds and writes: whose ledger it is, who was in doubt, how long it was away."""

import secrets
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from broadcastd.clock import from_ms, to_ms
from broadcastd.ledgers import job_changes, meta_values, slice_changes
from broadcastd.ledgers.identity import Identity, Place, later, why_a_copy
from broadcastd.ledgers.schema import jobs
from broadcastd.model import HoldKind
from broadcastd.ports import Opening
from broadcastd.states import JOB_GOING, JobState

ADOPTED_AT = 2
"""The first beat of a ledger that was adopted."""

COPIED = (
    "this ledger is a copy, or was restored from one: {why}."
    " See whether its original goes on elsewhere, then `broadcastd ledger adopt`"
)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a start must not do unseen."""

    place: Place | None
    """Where this ledger is now; None: copies are not looked for."""
    folder: Path
    """Of the files that tell a ledger from its copies."""
    longest_away: timedelta
    """Jobs found after a longer downtime are held; zero: never."""


def identity_of(connection: sa.Connection) -> Identity | None:
    """What the ledger says of itself; None before its first start under a guard."""
    name = meta_values.get(connection, "identity")
    if name is None:
        return None
    place = Place(meta_values.get(connection, "machine") or "", meta_values.get(connection, "path") or "")
    starts = int(meta_values.get(connection, "starts") or 0)
    return Identity(name, place, starts, int(meta_values.get(connection, "beat") or 0))


def settle_in(connection: sa.Connection, identity: Identity) -> None:
    """Write whose ledger this is."""
    meta_values.put(
        connection,
        identity=identity.ledger,
        machine=identity.place.machine,
        path=identity.place.path,
        starts=str(identity.starts),
        beat=str(identity.beat),
    )


def open_ledger(
    connection: sa.Connection,
    guard: "Guard",
    known: Identity | None,
    now: datetime,
) -> tuple[Opening, Identity | None]:
    """Count this start; take back what former ones had leased; hold what must not go on by itself.

    `known`: what the file outside the ledger's folder says. The lock says that nobody else works here:
    whatever is leased was so by a former start. Returns the identity that the file is to hold now, too: None
    when it must not be touched.
    """
    own, place = identity_of(connection), guard.place
    why = "" if place is None or own is None else why_a_copy(own, place, known)
    identity = None
    starts = int(meta_values.get(connection, "starts") or 0) + 1
    if why:
        why = COPIED.format(why=why)
        hold_all(connection, HoldKind.COPY, why, now)
    elif place is not None:
        identity = Identity(own.ledger, place, starts, own.beat) if own else Identity.new(place, starts)
        settle_in(connection, identity)
    else:
        meta_values.put(connection, starts=str(starts))
    reopened, in_doubt = slice_changes.recover(connection, sa.true(), now)
    away = _away(connection, now)
    if away is not None and guard.longest_away and away > guard.longest_away:
        hours = away.total_seconds() / 3600
        reason = f"broadcastd was away for {hours:.1f} h, longer than ledger.hold_after_down_s allows"
        hold_all(connection, HoldKind.DOWNTIME, reason, now)
    if why:
        note_alive(connection, now)
    else:
        number = beat(connection, now)
        identity = identity and later(identity, number)
    owner = f"{socket.gethostname()}:{starts}"
    return Opening(owner, reopened, in_doubt, why, away), identity


def _away(connection: sa.Connection, now: datetime) -> timedelta | None:
    last = meta_values.get(connection, "heartbeat_at")
    return None if last is None else now - from_ms(int(last))


def hold_all(connection: sa.Connection, kind: HoldKind, reason: str, now: datetime) -> int:
    """Hold every job that would go on by itself, now or when its hold ends, and is not for later anyway."""
    going = jobs.c.state.in_([state.value for state in JOB_GOING])
    change = sa.update(jobs).where(sa.or_(going, jobs.c.held_until.is_not(None)))
    if kind is HoldKind.DOWNTIME:
        change = change.where(sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= to_ms(now)))
    held = change.values(state=JobState.HELD.value, reason=reason, hold_kind=kind.value, held_until=None)
    return connection.execute(held).rowcount


def beat(connection: sa.Connection, now: datetime) -> int:
    """Note that a daemon is alive; how often that was noted."""
    number = int(meta_values.get(connection, "beat") or 0) + 1
    meta_values.put(connection, beat=str(number), heartbeat_at=str(to_ms(now)))
    return number


def note_alive(connection: sa.Connection, now: datetime) -> None:
    """As `beat`, in a ledger whose identity is in question: it must stay recognizable."""
    meta_values.put(connection, heartbeat_at=str(to_ms(now)))


def adopt(connection: sa.Connection, place: Place | None) -> tuple[Identity | None, int]:
    """Make this ledger one of its own, here: its new identity, and how many jobs go on."""
    identity = None
    if place is not None:
        identity = Identity.new(place, int(meta_values.get(connection, "starts") or 0) + 1)
        # Not as young as a ledger that was made just now, whose file may be missing.
        identity = later(identity, ADOPTED_AT)
        settle_in(connection, identity)
    copied = jobs.c.hold_kind == HoldKind.COPY.value
    return identity, job_changes.let_go(connection, copied, (JobState.HELD,))


def report_key(connection: sa.Connection) -> str:
    """The key of the reports' HMAC, made at its first use."""
    key = meta_values.get(connection, "report_key")
    if key is None:
        key = secrets.token_hex(32)
        meta_values.put(connection, report_key=key)
    return key
