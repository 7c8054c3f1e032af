"""How a recipient ends, and how one attempt ends."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a recipient ended. Each frozen recipient gets exactly one."""

    SENT = "sent"  # WeChat took the message
    REJECTED = "rejected"  # WeChat refused it for good
    FAILED = "failed"  # the retries are used up
    UNKNOWN = "unknown"  # asked, no answer: it may have arrived
    SKIPPED = "skipped"  # not asked: opted out meanwhile

    __hash__ = str.__hash__  # Enum's own is written in Python, and counts are kept by outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one attempt.

    `errcode` is WeChat's when the attempt was answered. Otherwise exactly one of `refused` (certainly not
    sent) and `unanswered` (may have been sent) says in plain words what happened.
    """

    errcode: int = 0
    errmsg: str = ""
    refused: str | None = None
    unanswered: str | None = None
    msgid: int | None = None
    """What WeChat calls this message in its later event; None: it did not say."""

    @property
    def answered(self) -> bool:
        """Whether WeChat itself answered, with an errcode."""
        return self.refused is None and self.unanswered is None


@dataclass(frozen=True, slots=True)
class Ended:
    """The recipient has an outcome."""

    outcome: Outcome
    channel: str = ""
    errcode: int = 0
    msgid: int | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """The recipient is due again after `delay_s`, on the channel with index `channel_no`.

    `in_doubt` is true when it may have arrived already: then the books count it before it is asked again.
    """

    delay_s: float
    reason: str
    channel_no: int = 0
    tries: int = 0
    in_doubt: bool = False
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class Halt:
    """The whole job must wait for an operator; this recipient is due again when it goes on."""

    reason: str
    channel_no: int = 0
    account_for_s: float | None = None
    """It is the account's trouble: all its jobs wait, and are tried again after so long."""
    errcode: int = 0
    """WeChat's, when it is about the message or the request."""
    since: int = 0
    """Of the account's trouble: how often the account had been tried again when the call began."""


@dataclass(frozen=True, slots=True)
class Gather:
    """The recipient waits for others: the channel with index `channel_no` reaches many by one call."""

    channel_no: int


Verdict = Ended | Later | Halt | Gather
