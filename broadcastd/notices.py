"""What an operator is to be told of, from wherever it is noticed. Who tells them is `alerts/`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class NoticeKind(StrEnum):
    """What has happened. A trouble is told at once, again while it lasts, and once more when it is over."""

    DAEMON_DOWN = "daemon_down"
    """The port does not answer, or nothing makes progress (the monitor's)."""
    CANARY_FAILS = "canary_fails"
    """It answers, and a job would not go through: a commit, the audience query, a token (the monitor's)."""
    JOB_STUCK = "job_stuck"
    """Accepted work, and no outcome for a long time."""
    JOB_HELD = "job_held"
    """Waits for an operator, with the reason."""
    ACCOUNT_HELD = "account_held"
    """WeChat refuses an account: errcode and its meaning."""
    QUOTA_SHORT = "quota_short"
    """The day's calls are used up, or will not do for what is open."""
    LEDGER_UNWRITABLE = "ledger_unwritable"
    """Nothing new is accepted: a full disk, a database that is away."""
    LEDGER_COPIED = "ledger_copied"
    """This ledger is a copy, or restored: its jobs are held."""
    DISK_SHORT = "disk_short"
    """The ledger's disk is nearly full (the monitor's)."""
    EXPIRES_SOON = "expires_soon"
    """A certificate or token (the monitor's)."""
    FRAME_REFUSED = "frame_refused"
    """A frame was not taken in; the old client reads no answer."""
    HOOK_FAILING = "hook_failing"
    """The site is not told that its jobs have ended."""
    JOB_FINISHED = "job_finished"
    """Told once, and only if asked for."""
    TEST = "test"
    """`broadcastd alert test`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell."""

    kind: NoticeKind
    about: str = ""
    """What it is about: an account, a job. With the kind, what tells one trouble from another."""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    """What the text is made of: `reason`, `account`, `errcode`, … Never a secret."""
    over: bool = False
    """The trouble has ended. Of one that nobody was told of, this is not told either."""
    lasts: bool = True
    """False: an event. It is told once, and there is nothing to remind of."""
    known: bool = False
    """An earlier run has told it: not at once again, but its reminders and its end are."""


class Notices(Protocol):
    """Takes notices."""

    def tell(self, notice: Notice) -> None:
        """At once, whatever becomes of it: never waits, never raises, never grows without bound."""
        ...


class Unheard:
    """For who has nobody to tell."""

    def tell(self, notice: Notice) -> None:
        """See `Notices`."""
