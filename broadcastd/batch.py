"""What one group commit of the recorder writes: marks, outcomes, deferrals. Values only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from broadcastd.errcodes import Note
from broadcastd.model import Deferral, Lease
from broadcastd.outcomes import Outcome


@dataclass(slots=True)
class SliceMark:
    """What must be on disk before a slice's next recipients are asked."""

    lease: Lease
    upto: int | None = None
    """The new mark, or None when only deferred recipients are armed."""
    armed: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One recipient's end."""

    job_no: int
    recipient_id: int
    openid: str | None
    outcome: Outcome
    channel: str
    errcode: int
    at: datetime
    was_deferred: bool = False
    round_no: int = 1
    msgid: int | None = None
    """WeChat's number of the message, where its delivery will be reported."""


class SentOn(NamedTuple):
    """What recipients have in common to whom a message was sent at the first try of a call."""

    job_no: int
    round_no: int
    channel: str


SentRow = tuple[int, str, int, int | None]
"""Recipient id, openid, when (milliseconds since 1970), WeChat's number of the message where it is needed."""


@dataclass(frozen=True, slots=True)
class DeferralRow:
    """One recipient put off, with its slice."""

    job_no: int
    slice_no: int
    deferral: Deferral
    in_doubt: bool = False
    """Whether this counts one more in the job's `in_doubt`."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What an answer said of a follower. `errcode` 0: a message was accepted, `note` does not hold now."""

    account: str
    openid: str
    note: Note
    errcode: int
    at: datetime


@dataclass(frozen=True, slots=True)
class GatheredRow:
    """One recipient that waits for a mass message. It has a deferral, due `WITH_ITS_CHUNK`."""

    job_no: int
    recipient_id: int
    openid: str


@dataclass(slots=True)
class Batch:
    """What one group commit writes."""

    marks: list[SliceMark] = field(default_factory=list)
    outcomes: list[OutcomeRow] = field(default_factory=list)
    deferrals: list[DeferralRow] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)
    """In the order that it was learnt."""
    saved: dict[int, int] = field(default_factory=dict)
    """Job number to calls that were not made."""
    gathered: list[GatheredRow] = field(default_factory=list)
    sent: dict[SentOn, list[SentRow]] = field(default_factory=dict)
    """Outcomes of whom there is nothing more to say: nine in ten of all, so they are kept apart."""

    def __bool__(self) -> bool:
        rows = self.marks or self.outcomes or self.sent or self.deferrals
        return bool(rows or self.learned or self.saved or self.gathered)

    @property
    def outcome_count(self) -> int:
        """How many recipients it ends."""
        return len(self.outcomes) + sum(map(len, self.sent.values()))

    @property
    def rows(self) -> int:
        """How many it writes of slices and recipients."""
        return len(self.marks) + self.outcome_count + len(self.deferrals) + len(self.gathered)
