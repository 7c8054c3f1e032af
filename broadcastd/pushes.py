"""What WeChat pushes to an account's callback, as values. What each means is said once, here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

LONGEST_OPENID = 128
"""Characters. No length is guaranteed; 28 is what they have."""


class Delivery(StrEnum):
    """How a message that WeChat had taken ended, as an event reports it later."""

    DELIVERED = "delivered"  # it is in the follower's chat
    BLOCKED = "blocked"  # the follower blocks this account
    FAILED = "failed"  # the platform could not deliver it


class Word(StrEnum):
    """What a follower's text asks for."""

    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"


class PushKind(StrEnum):
    """What is kept of a push beside its sender: never what somebody wrote."""

    OPT_OUT = "opt_out"  # a text that opts out
    OPT_IN = "opt_in"  # a text that opts in
    MESSAGE = "message"  # any other message
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    CLICK = "click"
    SCAN = "scan"
    VIEW = "view"
    TEMPLATE_FINISHED = "template_finished"
    SUBSCRIBE_SENT = "subscribe_sent"
    SUBSCRIBE_CHOSEN = "subscribe_chosen"
    MASS_FINISHED = "mass_finished"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What every push has."""

    openid: str
    """`FromUserName`."""
    original_id: str
    """`ToUserName`: the account as WeChat's pushes name it, gh_…"""
    created_s: int
    """`CreateTime`: seconds since 1970, by WeChat's clock."""
    dedupe_key: str
    """The same for each try of one push, different for any two pushes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMessage(Push):
    """A follower wrote something."""

    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherMessage(Push):
    """A follower sent something else than text: a picture, a voice message."""

    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed(Push):
    """Somebody follows now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribed(Push):
    """Somebody follows no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicked(Push):
    """A menu entry of a kind that opens the window: click-push, scan-push."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned(Push):
    """A follower scanned the account's QR code."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewed(Push):
    """A menu entry that is a link; it opens no window."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFinished(Push):
    """How a template message ended."""

    msgid: int
    """0: WeChat does not say which message, as was seen where `client_msg_id` was set."""
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class SentNotice:
    """How one subscription notification ended."""

    template_id: str
    msgid: int
    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeSent(Push):
    """How subscription notifications ended."""

    notices: tuple[SentNotice, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a follower chose for one template of subscription notifications."""

    template_id: str
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeChosen(Push):
    """A follower was asked for consent to notifications, or took it back in the settings."""

    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MassFinished(Push):
    """How a mass message ended. There is no result for a single follower."""

    msg_id: int
    status: str
    total: int
    filtered: int
    """Who was left after WeChat's filters: region, refusal, four a month."""
    sent: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent(Push):
    """An event that says nothing to broadcastd."""

    event: str


@dataclass(frozen=True, slots=True)
class Window:
    """So many customer-service messages, for so long."""

    messages: int
    lasts: timedelta


WINDOWS: Mapping[type[Push], Window] = {
    TextMessage: Window(5, timedelta(hours=48)),
    OtherMessage: Window(5, timedelta(hours=48)),
    Clicked: Window(3, timedelta(minutes=1)),
    Scanned: Window(3, timedelta(minutes=1)),
    Subscribed: Window(3, timedelta(minutes=1)),
}
"""What opens the customer-service window (docs/wechat-api.md, section 1)."""


_KINDS: Mapping[type[Push], PushKind] = {
    TextMessage: PushKind.MESSAGE,
    OtherMessage: PushKind.MESSAGE,
    Subscribed: PushKind.SUBSCRIBE,
    Unsubscribed: PushKind.UNSUBSCRIBE,
    Clicked: PushKind.CLICK,
    Scanned: PushKind.SCAN,
    Viewed: PushKind.VIEW,
    TemplateFinished: PushKind.TEMPLATE_FINISHED,
    SubscribeSent: PushKind.SUBSCRIBE_SENT,
    SubscribeChosen: PushKind.SUBSCRIBE_CHOSEN,
    MassFinished: PushKind.MASS_FINISHED,
}


def kind_of(push: Push, word: Word | None) -> PushKind:
    """The kind of a push whose text asks for `word`."""
    return PushKind(word.value) if word is not None else _KINDS.get(type(push), PushKind.OTHER)


@dataclass(frozen=True, slots=True)
class NewPush:
    """A push on its way to the ledger."""

    account: str
    push: Push
    kind: PushKind
    waits: bool = False
    """Whether a statement is to be run for it in the site's database."""


@dataclass(frozen=True, slots=True)
class WaitingPush:
    """A push whose statement has not been run yet."""

    no: int
    """In the order in which they were taken."""
    kind: PushKind
    openid: str
