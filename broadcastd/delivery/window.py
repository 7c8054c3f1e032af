"""What is known of a follower, and what it says of a call that has not been made. Pure.

All of it is a guess: a window opens without our hearing of it, somebody follows again. So a guess is believed
for a while only, and `memory` tries some of them all the same.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from broadcastd.errcodes import Note
from broadcastd.model import Known


@dataclass(frozen=True, slots=True)
class Trust:
    """How long a guess is believed."""

    closed: timedelta
    """A window that is closed, a consent that is missing."""
    gone: timedelta


HEARING = Trust(closed=timedelta(hours=24), gone=timedelta(days=7))
"""With a callback: what ends it (a message, a new consent, a new follower) would have been heard of."""

DEAF = Trust(closed=timedelta(hours=1), gone=timedelta(hours=24))
"""Without one."""

LONGEST_TRUST = max(HEARING.gone, HEARING.closed)

TELLING = {
    "custom": (Note.CLOSED, Note.GONE),
    "template": (Note.GONE,),
    "subscribe": (Note.NO_CONSENT,),
}
"""The channels whose answers say something of a follower, and what. `subscribe` reaches those too who do not
follow, and a mass message costs no call for each."""


def expected(known: Known, channel: str, now: datetime, trust: Trust) -> Note | None:
    """Why WeChat would refuse a call on `channel`; None: nothing is known that speaks against it."""
    telling = TELLING.get(channel, ())
    if Note.GONE in telling and _is_fresh(known.gone_at, now, trust.gone):
        return Note.GONE
    if Note.CLOSED in telling and _is_closed(known, now, trust):
        return Note.CLOSED
    if Note.NO_CONSENT in telling and _is_fresh(known.refused_at, now, trust.closed):
        return Note.NO_CONSENT
    return None


def tells(known: Known, note: Note) -> bool:
    """Whether something is known that a message which was accepted changes."""
    if note is Note.GONE:
        return known.gone_at is not None
    if note is Note.NO_CONSENT:
        return known.refused_at is not None
    return known.closed_at is not None or known.window_left is not None


def _is_closed(known: Known, now: datetime, trust: Trust) -> bool:
    until = known.window_until
    if until is not None and until > now:
        return known.window_left is not None and known.window_left <= 0
    # An end that has passed is as good as WeChat's own word.
    return _is_fresh(until, now, trust.closed) or _is_fresh(known.closed_at, now, trust.closed)


def _is_fresh(since: datetime | None, now: datetime, trusted: timedelta) -> bool:
    return since is not None and now - since < trusted
