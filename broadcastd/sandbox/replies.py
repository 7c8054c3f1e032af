"""What a callback answered to a push, read as WeChat reads it (reference, section 6). Pure."""

from dataclasses import dataclass
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from broadcastd.sandbox.crypto import Crypto, signature

_ENOUGH = (b"", b"success")


@dataclass(frozen=True, slots=True)
class PassiveReply:
    """`kind` is the MsgType of a reply that the user sees, `text` its content.

    `wrong` says why WeChat would show its notice of an outage instead; empty when all is well.
    """

    kind: str = ""
    text: str = ""
    wrong: str = ""


def read_reply(body: bytes, openid: str, token: str, crypto: Crypto | None) -> PassiveReply:
    """The reply to a push about `openid`; `crypto` when it must be encrypted."""
    if body.strip() in _ENOUGH:
        return PassiveReply()
    try:
        fields = _fields(body)
        if crypto is not None:
            fields = _fields(_opened(fields, token, crypto).encode())
        elif "Encrypt" in fields:
            return PassiveReply(wrong="encrypted, which this mode does not ask for")
    except ValueError as error:
        return PassiveReply(wrong=str(error))
    if fields.get("ToUserName") != openid:
        return PassiveReply(wrong="ToUserName is not the openid of the push")
    kind, text = fields.get("MsgType", ""), fields.get("Content", "")
    if not kind or (kind == "text" and not text):
        return PassiveReply(wrong="no MsgType or no Content")
    return PassiveReply(kind, text)


def _fields(body: bytes) -> dict[str, str]:
    try:
        root = fromstring(body)
    except (ParseError, DefusedXmlException):
        raise ValueError("neither success, nor nothing, nor XML") from None
    return {child.tag: child.text or "" for child in root}


def _opened(fields: dict[str, str], token: str, crypto: Crypto) -> str:
    if "Encrypt" not in fields:
        raise ValueError("not encrypted")
    signed = signature(token, fields.get("TimeStamp", ""), fields.get("Nonce", ""), fields["Encrypt"])
    if signed != fields.get("MsgSignature"):
        raise ValueError("MsgSignature is wrong")
    return crypto.decrypt(fields["Encrypt"])
