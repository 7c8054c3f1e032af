"""What WeChat pushes to a callback, as XML (reference, sections 2, 3, 4 and 6). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TEMPLATE_DONE = "TEMPLATESENDJOBFINISH"
MASS_DONE = "MASSSENDJOBFINISH"
SUBSCRIBE_SENT = "subscribe_msg_sent_event"


@dataclass(frozen=True, slots=True)
class Event:
    """One push: `kind` is how it is counted, `fields` what comes after the four that all have but MsgType.

    `at` is when it happened and is due. A field is a text, a number, a mapping of fields, or a list of
    mappings, which repeats its element.
    """

    kind: str
    user_name: str
    openid: str
    at: float
    fields: Mapping[str, Any] = field(default_factory=dict)

    def xml(self, encrypted: str = "") -> str:
        """The whole push; with `encrypted`, plain and encrypted in one as in the compatible mode."""
        head = {"ToUserName": self.user_name, "FromUserName": self.openid, "CreateTime": int(self.at)}
        body = elements({**head, **self.fields, **({"Encrypt": encrypted} if encrypted else {})})
        return f"<xml>{body}</xml>"


def elements(fields: Mapping[str, Any]) -> str:
    """XML elements in WeChat's manner: texts as CDATA, numbers bare."""
    return "".join(_element(name, value) for name, value in fields.items())


def _element(name: str, value: object) -> str:
    if isinstance(value, list):
        return "".join(_element(name, part) for part in value)
    if isinstance(value, Mapping):
        return f"<{name}>{elements(value)}</{name}>"
    if isinstance(value, int):
        return f"<{name}>{value}</{name}>"
    # The only thing that cannot stand in CDATA is its own end.
    text = str(value).replace("]]>", "]]]]><![CDATA[>")
    return f"<{name}><![CDATA[{text}]]></{name}>"
