"""What a follower can do: it changes the account's state, and is pushed to the callback."""

from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadcastd.sandbox.asked import Account
from broadcastd.sandbox.events import Event
from broadcastd.sandbox.followers import Interaction

# 64 bits, and above 2^53 (reference, sections 0 and 6).
_FIRST_MSG_ID = 23_456_789_012_000_000


class Kind(StrEnum):
    """One act each, in WeChat's words."""

    TEXT = "text"
    CLICK = "CLICK"
    VIEW = "VIEW"
    SCAN = "SCAN"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    POPUP = "subscribe_msg_popup_event"
    CHANGE = "subscribe_msg_change_event"


_OPENS = {
    Kind.TEXT: Interaction.MESSAGE,
    Kind.CLICK: Interaction.CLICK,
    Kind.SCAN: Interaction.SCAN,
    Kind.SUBSCRIBE: Interaction.FOLLOW,
}
_ABOUT_CONSENT = (Kind.POPUP, Kind.CHANGE)


class Act(BaseModel):
    """What these followers do, one after the other.

    `content`: of a text. `key`: the menu's key of CLICK, the URL of VIEW, the scene of SCAN, that of the
    QR code of subscribe. `template_id` and `accepts`: of the two events about consent; a popup that is
    accepted is one consent more, a refusal takes all away. `fields`: put into the push as they are, also in
    place of others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    openids: list[str] = Field(min_length=1)
    act: Kind
    content: str = ""
    key: str = ""
    template_id: str = ""
    accepts: bool = True
    fields: dict[str, str | int] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.act in _ABOUT_CONSENT and not self.template_id:
            raise ValueError(f"{self.act} needs a template_id")
        if self.act is Kind.CHANGE and self.accepts:
            raise ValueError(f"{self.act} only tells of refusals: accepts must be false")
        return self


class Acts:
    """Carries acts out."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._texts = 0

    def do(self, act: Act, now: float) -> list[Event]:
        """Change the state, and give what is to be pushed."""
        return [self._one(act, openid, now) for openid in act.openids]

    def _one(self, act: Act, openid: str, now: float) -> Event:
        followers = self._account.followers
        row = followers.row(openid, now)
        if act.act in _OPENS:
            followers.interact(row, _OPENS[act.act], now)
        elif act.act is Kind.UNSUBSCRIBE:
            followers.leave(row)
        elif act.act in _ABOUT_CONSENT:
            consents = self._account.consents
            consents.give(row, act.template_id, consents.left(row, act.template_id) + 1 if act.accepts else 0)
        fields = self._fields(act) | act.fields
        return Event(act.act.value, self._account.options.user_name, openid, now, fields)

    def _fields(self, act: Act) -> dict[str, Any]:
        if act.act is Kind.TEXT:
            self._texts += 1
            return {"MsgType": "text", "Content": act.content, "MsgId": _FIRST_MSG_ID + self._texts}
        fields: dict[str, Any] = {"MsgType": "event", "Event": act.act.value}
        if act.act in _ABOUT_CONSENT:
            told: dict[str, object] = {"TemplateId": act.template_id}
            told["SubscribeStatusString"] = "accept" if act.accepts else "reject"
            if act.act is Kind.POPUP:
                told["PopupScene"] = 1
            # The official sample of the change event has the container of the popup's (reference, section 3).
            return {**fields, "SubscribeMsgPopupEvent": {"List": told}}
        key = f"qrscene_{act.key}" if act.key and act.act is Kind.SUBSCRIBE else act.key
        if key or act.act in (Kind.CLICK, Kind.VIEW, Kind.SCAN):
            fields["EventKey"] = key
        if act.act is Kind.SCAN or (act.act is Kind.SUBSCRIBE and key):
            fields["Ticket"] = "sandbox-ticket"
        return fields
