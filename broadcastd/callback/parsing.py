"""A push's bytes, XML or JSON as the account is set, to a value of `pushes`. Pure.

The same names stand in both. What is not understood is an `OtherEvent`; only what is no push at all raises.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from broadcastd.pushes import (
    LONGEST_OPENID,
    Choice,
    Clicked,
    Delivery,
    MassFinished,
    OtherEvent,
    OtherMessage,
    Push,
    Scanned,
    SentNotice,
    SubscribeChosen,
    Subscribed,
    SubscribeSent,
    TemplateFinished,
    TextMessage,
    Unsubscribed,
    Viewed,
)

Fields = Mapping[str, Any]
"""Names to texts, to further fields, or to lists of these."""

LONGEST_KEY = 160
"""Characters of a dedupe key; a longer one is hashed."""
MOST_BITS = 63


class UnreadablePushError(Exception):
    """This is no push of WeChat's."""


def fields_of(body: bytes) -> tuple[Fields, bool]:
    """The fields of a body, and whether it is JSON. Raises UnreadablePushError.

    DTDs and entities are refused: a few bytes of them can be made to fill any memory.
    """
    is_json = body.lstrip()[:1] == b"{"
    try:
        if is_json:
            return orjson.loads(body), True
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # LookupError: an encoding
        raise UnreadablePushError from error
    found = _below(root)
    if not isinstance(found, dict):
        raise UnreadablePushError
    return found, False


def _below(element: Element) -> Any:
    """Texts by their tag; a tag that stands several times is a list, as in WeChat's JSON."""
    if not len(element):
        return element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        value = _below(child)
        if child.tag not in found:
            found[child.tag] = value
        elif isinstance(found[child.tag], list):
            found[child.tag].append(value)
        else:
            found[child.tag] = [found[child.tag], value]
    return found


def push_of(fields: Fields) -> Push:
    """The push that these fields are. Raises UnreadablePushError."""
    openid, kind = _text(fields, "FromUserName"), _text(fields, "MsgType").lower()
    if not openid or len(openid) > LONGEST_OPENID or not kind:
        raise UnreadablePushError
    event = _text(fields, "Event").lower()
    base: dict[str, Any] = {
        "openid": openid,
        "original_id": _text(fields, "ToUserName"),
        "created_s": _number(fields, "CreateTime"),
        "dedupe_key": _dedupe_key(fields, openid, event),
    }
    if kind == "text":
        return TextMessage(content=_text(fields, "Content"), **base)
    if kind != "event":
        return OtherMessage(kind=kind, **base)
    if event in _EVENTS:
        return _EVENTS[event](fields, base)
    return OtherEvent(event=event, **base)


def _dedupe_key(fields: Fields, openid: str, event: str) -> str:
    """What every try of one push has alike: its MsgId, or sender, time and event.

    The tag of a message's own number is MsgId; an event's MsgID is another message's.
    """
    if not event and (msg_id := _text(fields, "MsgId")):
        key = f"message {msg_id}"
    else:
        key = f"{event or _text(fields, 'MsgType')} {openid} {_number(fields, 'CreateTime')}"
        key += f" {_text(fields, 'MsgID') or _text(fields, 'MsgId')}"
    return key if len(key) <= LONGEST_KEY else hashlib.sha256(key.encode(errors="replace")).hexdigest()


def delivery_of(status: str) -> Delivery:
    """A `Status` in one word. Spaces come and go (`failed:user block`, `failed: system failed`)."""
    packed = status.replace(" ", "").lower()
    if packed.startswith("success"):
        return Delivery.DELIVERED
    return Delivery.BLOCKED if packed.startswith("failed:userblock") else Delivery.FAILED


def _template_finished(fields: Fields, base: Fields) -> Push:
    return TemplateFinished(msgid=_msgid(fields), delivery=delivery_of(_text(fields, "Status")), **base)


def _mass_finished(fields: Fields, base: Fields) -> Push:
    return MassFinished(
        msg_id=_msgid(fields),
        status=_text(fields, "Status"),
        total=_number(fields, "TotalCount"),
        filtered=_number(fields, "FilterCount"),
        sent=_number(fields, "SentCount"),
        errors=_number(fields, "ErrorCount"),
        **base,
    )


def _subscribe_sent(fields: Fields, base: Fields) -> Push:
    notices = tuple(
        SentNotice(
            _text(one, "TemplateId"),
            _msgid(one),
            Delivery.DELIVERED if _text(one, "ErrorCode") in ("", "0") else delivery_of(_failed(one)),
        )
        for one in _items(fields, "SubscribeMsgSentEvent")
    )
    return SubscribeSent(notices=notices, **base)


def _failed(item: Fields) -> str:
    return f"failed:{_text(item, 'ErrorStatus')}"


def _subscribe_chosen(fields: Fields, base: Fields) -> Push:
    # The official sample of the change event has the popup event's container.
    items = _items(fields, "SubscribeMsgPopupEvent", "SubscribeMsgChangeEvent")
    choices = tuple(
        Choice(_text(one, "TemplateId"), _text(one, "SubscribeStatusString").lower() == "accept")
        for one in items
    )
    return SubscribeChosen(choices=choices, **base)


def _clicked(fields: Fields, base: Fields) -> Push:
    return Clicked(key=_text(fields, "EventKey"), **base)


_EVENTS: Mapping[str, Callable[[Fields, Any], Push]] = {
    "subscribe": lambda fields, base: Subscribed(**base),
    "unsubscribe": lambda fields, base: Unsubscribed(**base),
    "click": _clicked,
    "scancode_push": _clicked,
    "scancode_waitmsg": _clicked,
    "scan": lambda fields, base: Scanned(key=_text(fields, "EventKey"), **base),
    "view": lambda fields, base: Viewed(url=_text(fields, "EventKey"), **base),
    "templatesendjobfinish": _template_finished,
    "masssendjobfinish": _mass_finished,
    "subscribe_msg_popup_event": _subscribe_chosen,
    "subscribe_msg_change_event": _subscribe_chosen,
    "subscribe_msg_sent_event": _subscribe_sent,
}


def _items(fields: Fields, *containers: str) -> list[Fields]:
    """The `List` of an event: one or many, in a container (XML), or without one (JSON)."""
    for name in containers:
        inner = fields.get(name)
        if inner is not None:
            found = inner.get("List", inner) if isinstance(inner, Mapping) else inner
            break
    else:
        found = fields.get("List")
    many = found if isinstance(found, list) else [found]
    return [one for one in many if isinstance(one, Mapping)]


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name, "")
    if isinstance(value, str):
        return value.strip() if name != "Content" else value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _number(fields: Fields, name: str) -> int:
    """A whole number of 64 bits; 0 for what is none."""
    digits = _text(fields, name)
    if len(digits) > 20 or not digits.isascii() or not digits.isdigit():
        return 0
    number = int(digits)
    return number if number.bit_length() <= MOST_BITS else 0


def _msgid(fields: Fields) -> int:
    return _number(fields, "MsgID") or _number(fields, "MsgId")
