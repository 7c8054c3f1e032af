"""The checks of a message's body, in the order in which the imitation makes them. Pure."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from broadcastd.sandbox.keywords import wrong_keyword

# Below so many characters no text is over 2,048 bytes, as none takes more than 4: spares the encoding.
_BYTES_A_CHARACTER = 4
# No length is guaranteed, 28 is usual (reference, section 7).
MAX_OPENID_LENGTH = 128
# The longest list of a mass message (reference, section 4).
MASS_OPENIDS = 10_000


@dataclass(slots=True)
class Checked:
    """A body: its errcode (0 = in order), what `errmsg` adds to that, and what could be read of it."""

    errcode: int = 0
    detail: str = ""
    message: dict[str, Any] = field(default_factory=dict)


def parse(body: bytes, escapes_errcode: int) -> Checked:
    """Read a JSON object; else 44002 (nothing), 40033 (not UTF-8), 47001 (not one) or `escapes_errcode`."""
    if not body:
        return Checked(44002)
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Checked(47001 if _is_utf8(body) else 40033)
    if not isinstance(message, dict):
        return Checked(47001)
    if b"\\u" in body and has_escapes(body):
        return Checked(escapes_errcode, message=message)
    return Checked(message=message)


def has_escapes(body: bytes) -> bool:
    r"""Whether valid JSON holds a `\uXXXX` that could have been written as it is.

    `\\u` is a backslash and a u, and control characters cannot be written otherwise: both pass.
    """
    at = body.find(b"\\")
    while at >= 0:
        if body[at + 1 : at + 2] == b"u" and int(body[at + 2 : at + 6], 16) >= 0x20:
            return True
        at = body.find(b"\\", at + 2)
    return False


def check_text(message: dict[str, Any], max_text_bytes: int) -> int:
    """The errcode of a message's text, 0 when it is in order; only `text` is imitated."""
    if message.get("msgtype") != "text":
        return 40008
    text = message.get("text")
    content = text.get("content") if isinstance(text, dict) else None
    if not isinstance(content, str) or not content:
        return 44004
    if len(content) * _BYTES_A_CHARACTER > max_text_bytes and len(content.encode()) > max_text_bytes:
        return 45002
    return 0


def check_custom(message: dict[str, Any], max_text_bytes: int) -> int:
    """The errcode of a customer-service message, 0 when it is in order."""
    return check_text(message, max_text_bytes) or (0 if named(message) else 40003)


def check_template(
    message: dict[str, Any], templates: tuple[str, ...], constants: tuple[str, ...]
) -> tuple[int, str]:
    """The errcode of a template or subscribe message and what `errmsg` adds.

    Any template is known when none is given.
    """
    template_id = message.get("template_id")
    if not isinstance(template_id, str) or not template_id:
        return 40036, ""
    if templates and template_id not in templates:
        return 40037, ""
    if not named(message):
        return 40003, ""
    data = message.get("data")
    if not isinstance(data, dict) or not data:
        return 47003, ""
    for key, entry in data.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), str | int | float):
            return 47003, f" data.{key}.value invalid"
    wrong = wrong_keyword(data, constants)
    return (47003, f" data.{wrong}.value invalid") if wrong else (0, "")


def check_mass(message: dict[str, Any], max_text_bytes: int) -> int:
    """The errcode of a mass message by list, 0 when it is in order."""
    openids = message.get("touser")
    if not isinstance(openids, list) or not all(isinstance(name, str) and name for name in openids):
        return 40031
    if len(openids) == 1:
        return 40130
    if not 2 <= len(openids) <= MASS_OPENIDS:
        return 40032
    if max(map(len, openids)) > MAX_OPENID_LENGTH:
        return 40031
    return check_text(message, max_text_bytes)


def named(message: dict[str, Any]) -> str:
    """The openid that the message names, or an empty text."""
    touser = message.get("touser")
    return touser if isinstance(touser, str) and len(touser) <= MAX_OPENID_LENGTH else ""


def text_of(message: dict[str, Any]) -> str:
    """What is recorded of a message: a custom text as it is, anything else as JSON without its addressee."""
    text = message.get("text")
    if isinstance(text, dict) and isinstance(text.get("content"), str):
        content: str = text["content"]
        return content
    shown = {key: value for key, value in message.items() if key not in ("touser", "client_msg_id")}
    try:
        return orjson.dumps(shown).decode() if shown else ""
    except orjson.JSONEncodeError:
        return ""  # it reads deeper nesting than it writes


def client_msg_id_of(message: dict[str, Any]) -> str:
    """The `client_msg_id`, or `clientmsgid` as a mass message calls it, as text, or an empty one."""
    value = message.get("client_msg_id") or message.get("clientmsgid")
    return str(value) if value else ""


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
