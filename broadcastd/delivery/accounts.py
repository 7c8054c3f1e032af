"""One account as the delivery sees it, and a job on its way through it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from broadcastd.delivery.gate import Gate
from broadcastd.delivery.lane import Lane
from broadcastd.delivery.memory import Memory
from broadcastd.delivery.opt_outs import OptOuts
from broadcastd.delivery.pace import Pace
from broadcastd.delivery.streaks import Streaks
from broadcastd.metrics import Tally
from broadcastd.model import Hold, Job, OnUnknown, base32
from broadcastd.ports import Audience, Channel, Message, TokenSource
from broadcastd.states import JOB_GOING, JobState


@dataclass(slots=True)
class Account:
    """One Official Account: credentials, audience, channels, limits."""

    name: str
    channels: Mapping[str, Channel]
    """In the order to try them."""
    audience: Audience
    tokens: TokenSource
    gate: Gate
    lanes: Mapping[str, Lane]
    """One a channel."""
    pace: Pace
    timezone: ZoneInfo
    max_gone_share: float
    on_unknown: OnUnknown
    memory: Memory | None = None
    """Of its followers; None: every call is made (`window = "off"`)."""
    streaks: Streaks = field(default_factory=Streaks)
    tally: Tally = field(default_factory=Tally)
    hold: Hold | None = None
    """Its trouble at WeChat: no job of it goes on until then."""
    held_for: str = ""
    stale_token: str = field(default="", repr=False)
    """The last one that WeChat called stale."""
    tried_again: int = 0
    """How often its hold was ended: what a call from before then was answered says nothing of now."""
    opt_outs: OptOuts | None = None
    """Who has opted out by a reply; None: the account has no callback, and no delivery is reported."""

    def is_held(self, now: datetime) -> bool:
        """Whether its trouble keeps all its jobs back now."""
        return self.hold is not None and self.hold.until is not None and now < self.hold.until


@dataclass(slots=True)
class OpenJob:
    """A job that has not ended, with what is needed to send it."""

    job: Job
    account: Account
    audience: Audience
    """The account's, or a test send's own."""
    route: tuple[tuple[Channel, Message], ...]
    state: JobState
    due: bool = True
    """Whether its time (`not_before`) has come."""
    gone_allowed: bool = False
    """An operator saw how many are gone, and let it go on."""
    gathers_at: int | None = None
    """Which channel of the route reaches many by one call: its recipients are gathered first."""
    being_read: bool = False
    """Whether some of its audience is frozen, and the rest still being read."""
    waits_for: str = ""
    """What keeps it from going on just now, in plain words; it goes on by itself."""
    ended: int = 0
    """How often something of it came to an end since it is here: ids were frozen, somebody has an outcome."""
    tried: int = 0
    """How often something of it was tried, and put off. By both is seen whether it stands still."""

    @property
    def kept_by(self) -> str:
        """What it, or its account, waits for just now, in plain words; empty when nothing is known."""
        account = self.account
        lanes = "; ".join(filter(None, (account.lanes[name].reason for name in self.job.channels)))
        return self.waits_for or account.gate.reason or account.tokens.trouble or lanes

    @property
    def no(self) -> int:
        """The ledger's number of the job."""
        return self.job.no

    @property
    def going(self) -> bool:
        """Whether anybody of it may be frozen and asked now."""
        return self.due and self.state in JOB_GOING

    def message_id(self, recipient_id: int) -> str:
        """Stable over retries and restarts. 30 characters at most: 16 of the job, 1 of the sign, 13."""
        sign = "-" if recipient_id >= 0 else "_"
        return f"{self.job.id}{sign}{base32(abs(recipient_id))}"
