"""An errcode for a recipient, and what it comes to where that depends on nothing else. Pure."""

from dataclasses import dataclass

from broadcastd import retry
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.lane import Lane
from broadcastd.delivery.memory import Follower
from broadcastd.errcodes import Meaning, in_words, meaning_of
from broadcastd.outcomes import Ended, Halt, Later, Outcome, Verdict

MINUTE_S = 60
"""45066 and 40241 take a repeat after a minute."""

ACCOUNT_TRY_S = 600
"""Until an account that is held is tried with one call, where its errcode does not say."""


@dataclass(slots=True)
class Recipient:
    """Whom to ask, and what is known of former tries."""

    id: int
    openid: str
    channel_no: int = 0
    tries: int = 0
    doubts: int = 0
    refusals: int = 0
    was_deferred: bool = False
    follower: Follower | None = None
    """What is remembered; None: nothing may be."""
    errcode: int = 0
    """What the channel before `channel_no` has answered, when it has just been asked."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An errcode for a recipient on one of a job's channels."""

    job: OpenJob
    channel_no: int
    who: Recipient
    errcode: int
    msgid: int | None = None

    @property
    def channel(self) -> str:
        """The name of the channel that was asked."""
        return self.job.route[self.channel_no][0].name

    @property
    def lane(self) -> Lane:
        """The lane that the call took."""
        return self.job.account.lanes[self.channel]

    @property
    def meaning(self) -> Meaning:
        """What the table says of the errcode."""
        return meaning_of(self.errcode)

    @property
    def reason(self) -> str:
        """The errcode in words, with its channel."""
        return f"{in_words(self.errcode)} (channel {self.channel})"


def reject(answered: Answered) -> Verdict:
    """Refused for good."""
    return Ended(Outcome.REJECTED, answered.channel, answered.errcode)


def hold_account(answered: Answered) -> Verdict:
    """All jobs of the account wait."""
    return Halt(answered.reason, answered.channel_no, answered.meaning.pause_s or ACCOUNT_TRY_S)


def stop(answered: Answered) -> Verdict:
    """The job waits for an operator."""
    return Halt(answered.reason, answered.channel_no, errcode=answered.errcode)


def in_a_minute(answered: Answered) -> Verdict:
    """A repeat of a call that got no answer: this is the proof that it arrived."""
    if answered.who.doubts:
        return Ended(Outcome.SENT, answered.channel)
    return _again(answered, MINUTE_S, retry.SYSTEM_BUSY_TRIES)


def once_more(answered: Answered) -> Verdict:
    """Again after a pause that grows, so often."""
    most = retry.SYSTEM_BUSY_TRIES if answered.errcode == -1 else retry.UNKNOWN_CODE_TRIES
    return _again(answered, retry.SYSTEM_BUSY.delay_s(answered.who.tries + 1), most)


def _again(answered: Answered, pause_s: float, most: int) -> Verdict:
    tries = answered.who.tries
    if tries >= most:
        return Ended(Outcome.FAILED, answered.channel, answered.errcode)
    return Later(pause_s, in_words(answered.errcode), answered.channel_no, tries + 1)
