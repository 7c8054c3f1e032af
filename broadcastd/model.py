"""What the layers hand each other: jobs, slices, recipients and books. Values only, no behaviour with I/O."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from broadcastd.outcomes import Outcome
from broadcastd.states import JobState

FLAG_PAGE = 500
"""`flag: N` is the N-th 500 of the audience, whatever `slice_size` is: the old `LIMIT flag*500,500`."""

NOBODY = "the audience query yields nobody"
"""Why a job is held whose audience is empty: more likely a wrong query or database than nobody to tell."""

TOO_MANY_GONE = "more than audience.max_gone_share allows: is the database whole and up to date?"
"""How the reason ends of a job that is held because its database may be an empty or lagging copy."""

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to mishear


def base32(value: int) -> str:
    """A number from 0 up in as few characters as can be read out on the telephone."""
    digits = ""
    while True:
        digits = _ID_ALPHABET[value & 31] + digits
        value >>= 5
        if not value:
            return digits


def new_job_id(now: datetime) -> str:
    """`j` and 15 characters: 7 of the second, so that ids sort by time, and 8 random ones."""
    return "j" + base32(int(now.timestamp()) << 40 | secrets.randbits(40)).rjust(15, "0")


class OnUnknown(StrEnum):
    """What is done with recipients in doubt."""

    RESEND = "resend"  # ask again: nobody is lost, a few may get the text twice
    LEAVE = "leave"  # leave them `unknown`: nobody is asked twice


class HoldKind(StrEnum):
    """What holds a job, and so what lets it go on."""

    TROUBLE = "trouble"  # what its reason says; `resume`
    DOWNTIME = "downtime"  # the daemon was away for too long; `resume`
    COPY = "copy"  # the ledger is a copy, or was restored; `ledger adopt`
    ACCOUNT = "account"  # its account's trouble at WeChat; tried again by itself, or `resume`


@dataclass(frozen=True, slots=True)
class Hold:
    """How a job is held."""

    kind: HoldKind | None = None
    until: datetime | None = None
    """When it is tried again by itself; None: when somebody says so."""


NO_HOLD = Hold()


RETRIABLE = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED, Outcome.SKIPPED)
"""The outcomes that a retry may ask again; who was sent to is never asked again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One broadcast as a frame asks for it, checked."""

    content: str
    phone: str = ""
    key: str | None = None
    ref: str | None = None
    flag: int | None = None
    account: str = "default"
    to: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    template: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    """The frame's `data`: further keywords of the template."""
    dry_run: bool = False
    not_before: datetime | None = None
    not_after: datetime | None = None
    on_unknown: OnUnknown | None = None
    """None: as the account's settings say."""

    def digest(self) -> str:
        """What makes two frames the same broadcast: content, phone, to, channels, template and data.

        Without a key the schedule counts too: the same text at eight and at noon is meant twice. Under a key
        it does not: who reckons a deadline anew for each repeat still means the one job.
        """
        same = [self.content, self.phone, self.to, self.channels, self.template, dict(self.extra)]
        if self.key is None and self.not_before is not None:
            same.append(self.not_before.isoformat())
        return hashlib.sha256(orjson.dumps(same, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def takes_key(self) -> bool:
        """Test sends and dry runs never take a key."""
        return self.to is None and not self.dry_run


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request with everything that is fixed at its acceptance."""

    id: str
    request: Request
    accepted_at: datetime
    channels: tuple[str, ...]
    messages: Mapping[str, str]
    """Channel name to its rendered message: everything but the recipient."""
    on_unknown: OnUnknown
    warnings: tuple[str, ...] = ()
    """What an operator should know of it, in plain words; the job goes on."""


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over a job: the first one over its audience, each later one a retry."""

    no: int = 1
    only: tuple[Outcome, ...] | None = None
    """The outcomes that a retry asks again; None for the first pass."""
    accepted_at: datetime | None = None
    finished_at: datetime | None = None
    recipients: int = 0
    """How many are frozen in it."""
    ended: int = 0
    """How many of them have an outcome of it."""


@dataclass(frozen=True, slots=True)
class Books:
    """A job's totals. They balance when every frozen recipient has exactly one outcome."""

    recipients: int = 0
    planned: bool = False
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    sent_by_channel: Mapping[str, int] = field(default_factory=dict)
    errcodes: Mapping[int, int] = field(default_factory=dict)
    """errcode to the number of recipients that ended with it; 0 is left out."""
    in_doubt: int = 0
    """How many were in doubt, ever: counted before anybody of them was asked again."""
    deliveries: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Channel to how many of its messages ended how (`pushes.Delivery`), as far as events have said."""

    @property
    def ended(self) -> int:
        """How many recipients have an outcome."""
        return sum(self.outcomes.values())

    @property
    def balanced(self) -> bool:
        """Whether everybody is frozen and has an outcome."""
        return self.planned and self.ended == self.recipients


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the ledger holds it."""

    no: int
    """The ledger's own number; `id` is what people see."""
    id: str
    account: str
    state: JobState
    reason: str
    """Why it is held or what it waits for; empty when all is well."""
    content: str
    phone: str
    key: str | None
    ref: str | None
    flag: int | None
    to: tuple[str, ...] | None
    channels: tuple[str, ...]
    messages: Mapping[str, str]
    on_unknown: OnUnknown
    accepted_at: datetime
    books: Books
    started_at: datetime | None = None
    finished_at: datetime | None = None
    first_sent_at: datetime | None = None
    last_sent_at: datetime | None = None
    planned_through: int | None = None
    """The last frozen id of the present round."""
    not_before: datetime | None = None
    not_after: datetime | None = None
    purged_at: datetime | None = None
    """Since then only its key and totals are kept."""
    round: Round = Round()
    """The present one."""
    hold: Hold = NO_HOLD
    """Of a job that is held."""
    warnings: tuple[str, ...] = ()
    """What an operator should know of it, in plain words."""
    calls_saved: int = 0
    """Calls that were not made because WeChat would have refused them (`followers`)."""

    @property
    def time(self) -> datetime:
        """The job's time (`:now`, `{now}`): when it was accepted, or when it is to begin."""
        return max(self.accepted_at, self.not_before or self.accepted_at)


@dataclass(frozen=True, slots=True)
class Deferral:
    """A recipient that is due again later."""

    recipient_id: int
    due_at: datetime
    channel_no: int = 0
    tries: int = 0
    """Answers that said: not now."""
    doubts: int = 0
    """How often nobody knew whether it had arrived."""
    refusals: int = 0
    """Calls in a row that WeChat's side did not take at all: they say nothing of the recipient."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One slice, and the right to work on it until `until` (or longer, when it is renewed)."""

    job_no: int
    slice_no: int
    token: int
    """Drawn anew for each lease: what a mark is checked against."""
    ids: Sequence[int]
    """All that are frozen; ascending."""
    unasked: Sequence[int]
    """Those above the mark without an outcome."""
    deferrals: tuple[Deferral, ...] = ()
    """Those put off, the first due first."""
    round_no: int = 1


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a follower, from what WeChat said; none of it is certain."""

    window_until: datetime | None = None
    """When the customer-service window ends, as far as the callback heard."""
    window_left: int | None = None
    """How many messages it takes until then."""
    closed_at: datetime | None = None
    """When WeChat said that it is closed, or used up."""
    gone_code: int = 0
    """The errcode that said: does not follow, or wants no messages."""
    gone_at: datetime | None = None
    refused_at: datetime | None = None
    """When WeChat said: no consent to subscription messages."""


NOTHING_KNOWN = Known()


WITH_ITS_CHUNK = datetime(9999, 1, 1, tzinfo=UTC)
"""When a recipient is due who waits for a mass message: nobody asks it before."""


@dataclass(frozen=True, slots=True)
class Split:
    """Part of a leased slice that another task takes over."""

    lease: Lease
    keep: tuple[int, ...]
    give: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """How a slice stood when its task let go of it."""

    done: bool
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What WeChat says of one path's calls today; it may be off by a hundredth."""

    daily_limit: int
    used: int
    left: int
    rate_calls: int | None = None
    """At most so many in `rate_s`; None: it names none."""
    rate_s: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One recipient of a job and how it stands. `outcome` None: has none yet."""

    recipient_id: int
    openid: str | None = None
    outcome: Outcome | None = None
    channel: str = ""
    errcode: int = 0
    at: datetime | None = None
    round_no: int = 1
    delivery: str = ""
    """How its last message ended, when an event has said so (`pushes.Delivery`)."""
