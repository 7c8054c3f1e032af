"""Passive replies: the text that a follower sees for a message, plain or encrypted, in the push's format."""

from typing import Any

import orjson

from broadcastd.callback.crypto import Cipher, signature
from broadcastd.pushes import Push

SUCCESS = b"success"
"""Nothing to show, do not try again."""


def text_reply(push: Push, text: str, now_s: int, *, as_json: bool) -> bytes:
    """A passive text reply; From and To swapped."""
    fields = {
        "ToUserName": push.openid,
        "FromUserName": push.original_id,
        "CreateTime": now_s,
        "MsgType": "text",
        "Content": text,
    }
    return _written(fields, as_json=as_json)


def sealed(reply: bytes, cipher: Cipher, token: str, nonce: str, now_s: int, *, as_json: bool) -> bytes:
    """The reply, encrypted and signed. `nonce`: the push's own."""
    encrypted = cipher.encrypt(reply)
    fields = {
        "Encrypt": encrypted,
        "MsgSignature": signature(token, str(now_s), nonce, encrypted),
        "TimeStamp": now_s,
        "Nonce": nonce,
    }
    return _written(fields, as_json=as_json)


def _written(fields: dict[str, Any], *, as_json: bool) -> bytes:
    if as_json:
        return orjson.dumps(fields)
    inner = "".join(f"<{name}>{_cdata(value)}</{name}>" for name, value in fields.items())
    return f"<xml>{inner}</xml>".encode()


def _cdata(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    # Within CDATA nothing is special but its end: a text that holds that is cut into two.
    return f"<![CDATA[{value.replace(']]>', ']]]]><![CDATA[>')}]]>"
