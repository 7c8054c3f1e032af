"""The protocol as bytes and values, and the ways a call fails. docs/protocol.md is the contract."""

import json
import uuid
from datetime import datetime
from typing import Any, Optional, Union

MAX_REPLY_BYTES = 1 << 23  # far above the daemon's longest, a thousand `jobs`
HARMLESS = (
    "ping",
    "info",
    "job",
    "jobs",
    "quota",
    "who",
    "report",
    "verify",
    "pause",
    "resume",
    "cancel",
    "drain",
)
Text = Optional[str]
Frame = dict[str, Any]
Moment = Union[str, float, datetime]  # ISO 8601 with an offset, Unix seconds, or an aware datetime
TYPES: Frame = {
    "content": str, "phone": str, "key": str, "ref": (str, int), "flag": (int, str), "account": str,
    "to": (list, tuple), "dry_run": bool, "channels": (list, tuple), "template": str, "data": dict,
    "not_before": (str, int, float, datetime), "not_after": (str, int, float, datetime), "on_unknown": str,
}  # fmt: skip


class BroadcastError(Exception):
    """The daemon has not confirmed the request. `maybe_accepted`: it may have accepted it all the same.
    `spooled`: it will be sent later. `key`: to repeat it under. `final`: it would always fail."""

    key: Text = None
    maybe_accepted, spooled, retry, final = False, False, True, False

    def __str__(self) -> str:
        facts = f" (key={self.key} maybe_accepted={self.maybe_accepted} spooled={self.spooled})"
        return f"{self.args[0]}{facts if self.key else ''}"


class Unreachable(BroadcastError):  # noqa: N818 - read as a fact: `except Unreachable`
    """There was no connection: the last attempt wrote nothing."""


class NoAnswer(BroadcastError):  # noqa: N818
    """The frame was written and no answer came."""

    maybe_accepted = True


class BadReply(BroadcastError):  # noqa: N818
    """What answered does not speak broadcastd's protocol."""

    maybe_accepted, retry = True, False


class Refused(BroadcastError):  # noqa: N818
    """The daemon's `"ok":false`, with its `code`, its `message` and the whole `reply`."""

    def __init__(self, text: str, reply: Frame) -> None:
        super().__init__(text, reply)
        self.code, self.message, self.reply = reply.get("error", ""), reply.get("message", ""), reply
        self.retry = reply.get("retry") is True
        # A wrong token is the fault of a setting: it must not cost a paid post.
        self.final = not self.retry and self.code != "unauthorized"


def broadcast_frame(fields: Frame) -> Frame:
    """A checked broadcast with a key; a dry run or a test send has none. Raises TypeError, ValueError."""
    frame = {name: value for name, value in fields.items() if value is not None or name == "content"}
    for name, value in frame.items():
        # Nor under another name: `dryrun=True` must not reach everybody. To Python, True is an int.
        if not isinstance(value, TYPES.get(name, ())) or isinstance(value, bool) != (name == "dry_run"):
            raise TypeError(f"broadcast() takes no {type(value).__name__} as {name}")
        if name in ("key", "to", "channels") and not (value and all(isinstance(one, str) for one in value)):
            raise ValueError(f"{name} may be left out; else it takes text that is not empty")
    key = frame.pop("key", f"c-{uuid.uuid4().hex}")
    return frame if "to" in frame or frame.get("dry_run") else {**frame, "key": key}


def op_frame(op: str, **fields: Any) -> Frame:
    """An op, without the fields that are None. Raises TypeError or ValueError for what JSON cannot hold."""
    frame = {"op": op, **{name: value for name, value in fields.items() if value is not None}}
    encode(frame)
    return frame


def encode(frame: Frame, token: Text = None) -> bytes:
    """One line of UTF-8. Raises TypeError or ValueError for what JSON cannot hold."""
    frame = {**frame, "token": token} if token else frame
    return json.dumps(frame, ensure_ascii=False, allow_nan=False, default=_iso).encode() + b"\n"


def _iso(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is nothing that JSON holds")
    if value.utcoffset() is None:
        raise ValueError(f"{value} has no timezone: which moment is meant?")
    return value.isoformat()


def complete(answer: bytes) -> bool:
    """Whether more bytes would change nothing: the line has ended, or it never was a reply."""
    return b"\n" in answer or answer[:1] not in (b"", b"{") or len(answer) > MAX_REPLY_BYTES


def parse_reply(answer: bytes, frame: Frame) -> Frame:
    """The reply to `frame`. Raises Refused, and BadReply for what no broadcastd says."""
    try:
        reply = json.loads(answer.partition(b"\n")[0]) if len(answer) <= MAX_REPLY_BYTES else None
    except (ValueError, RecursionError):
        reply = None
    if isinstance(reply, dict) and reply.get("ok") is False and isinstance(reply.get("error"), str):
        raise Refused(f"refused, {reply['error']}: {reply.get('message', '')}", reply)
    sign = {None: "job" if "key" in frame else "ok", "ping": "version"}.get(frame.get("op"), "ok")
    if not isinstance(reply, dict) or reply.get("ok") is not True or sign not in reply:
        raise BadReply(f"this is not broadcastd, or not this version: it answered {answer[:60]!r}")
    return reply
