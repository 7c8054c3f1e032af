"""The imitated endpoints: from a request to its answer and its record. No I/O, time is handed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs

import orjson

from broadcastd.sandbox import bodies
from broadcastd.sandbox.behaviour import AFTER_SEND, SENDS, Behaviour
from broadcastd.sandbox.calls import FIRST_MSGID, Calls, Entry
from broadcastd.sandbox.errmsgs import errmsg
from broadcastd.sandbox.followers import Followers, Standing
from broadcastd.sandbox.options import Options
from broadcastd.sandbox.tokens import Token, Tokens

PATHS = {
    "/cgi-bin/token": "token",
    "/cgi-bin/stable_token": "stable_token",
    "/cgi-bin/message/custom/send": "custom",
    "/cgi-bin/message/template/send": "template",
}
REDIRECTED = "/redirected"
# Reference, section 2: one message per (openid, client_msg_id) for 10 minutes.
REMEMBERED_S = 600.0
# Escapes are answered either way (reference, section 0): one code each, so that a caller meets both.
_ESCAPES = {"custom": 40033, "template": 47002, "stable_token": 47002}
_OK = b'{"errcode":0,"errmsg":"ok"}'


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer's body, the outage that takes its place on the wire, if any, and the number of the call."""

    body: bytes
    outage: str = ""
    number: int = -1


@dataclass(slots=True)
class _Asked:
    """One call on its way through the checks."""

    entry: Entry
    method: str
    query: str
    body: bytes
    message: dict[str, Any] = field(default_factory=dict)
    detail: str = ""
    granted: Token | None = None
    msgid: int = 0


class SentIds:
    """Which (openid, client_msg_id) led to which call, for 10 minutes.

    Keys are 64-bit hashes and values call numbers: a million cost 100 MB less than the texts would, and a
    false repeat needs billions of messages within 10 minutes. Two generations spare a sweep.
    """

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._turned_at = 0.0

    def add(self, row: int, client_msg_id: str, number: int, now: float) -> None:
        """Remember the call that delivered it."""
        if now - self._turned_at >= REMEMBERED_S:
            self._old, self._young, self._turned_at = self._young, {}, now
        self._young[hash((row, client_msg_id))] = number

    def find(self, row: int, client_msg_id: str) -> int:
        """The latest such call, which may be older than 10 minutes, or -1."""
        key = hash((row, client_msg_id))
        return self._young.get(key, self._old.get(key, -1))


class WeChat:
    """One imitated account: who follows it, its tokens, its behaviour, and all calls so far."""

    def __init__(self, options: Options, behaviour: Behaviour, now: float) -> None:
        self.options = options
        self.behaviour = behaviour
        self.followers = Followers(options, now)
        self.tokens = Tokens(options.expires_in_s, now, options.token)
        self.calls = Calls()
        self._sent_ids = SentIds()
        self._random = Random(options.seed)  # noqa: S311  # only for request ids
        self._answers: dict[str, Callable[[_Asked], int]] = {
            "token": self._token,
            "stable_token": self._stable_token,
            "custom": self._send,
            "template": self._send,
        }

    def ask(self, method: str, target: str, body: bytes, now: float) -> Reply:
        """Answer one request (`target` is path and query as they came), and record it."""
        path, _, query = target.partition("?")
        endpoint = PATHS.get(path) or ("redirected" if path.startswith(REDIRECTED + "/") else "unknown")
        entry = Entry(now, endpoint)
        asked = _Asked(entry, method, query, body)
        entry.outage = self.behaviour.outage(endpoint, now)
        if entry.outage and not entry.outage.endswith(AFTER_SEND):
            entry.processed = False
            self._note(asked)
            self.calls.add(entry)
            return Reply(b"", entry.outage, len(self.calls) - 1)
        answer = self._answers.get(endpoint)
        # What the real service says of a path that it does not have; not in the reference.
        entry.errcode = answer(asked) if answer else 40066
        reply = self._render(asked)
        self.calls.add(entry)
        return Reply(reply, entry.outage, len(self.calls) - 1)

    def _render(self, asked: _Asked) -> bytes:
        errcode = asked.entry.errcode
        if errcode:
            rid = f"{int(asked.entry.at):08x}-{self._random.getrandbits(32):08x}-{len(self.calls):08x}"
            text = f"{errmsg(errcode)}{asked.detail} rid: {rid}"
            return orjson.dumps({"errcode": errcode, "errmsg": text})
        if asked.granted is not None:
            left_s = round(asked.granted.expires_at - asked.entry.at)
            return orjson.dumps({"access_token": asked.granted.text, "expires_in": left_s})
        return b'{"errcode":0,"errmsg":"ok","msgid":%d}' % asked.msgid if asked.msgid else _OK

    def _send(self, asked: _Asked) -> int:
        entry = asked.entry
        errcode = self.tokens.check(_token_of(asked.query), entry.at)
        entry.token_ok = errcode == 0
        if not errcode and asked.method != "POST":
            errcode = 43002
        if errcode:
            self._note(asked)
            return errcode
        checked = bodies.parse(asked.body, _ESCAPES[entry.endpoint])
        asked.message = checked.message
        self._fill(asked)
        errcode = checked.errcode or self._check(asked) or self.behaviour.error(entry.endpoint, entry.at)
        return errcode or self._deliver(asked)

    def _check(self, asked: _Asked) -> int:
        if asked.entry.endpoint == "custom":
            return bodies.check_custom(asked.message, self.options.max_text_bytes)
        errcode, asked.detail = bodies.check_template(asked.message, self.options.templates)
        return errcode

    def _deliver(self, asked: _Asked) -> int:
        """Look at the follower's standing, window and former messages; deliver if nothing is in the way."""
        entry = asked.entry
        row, is_custom = entry.row, entry.endpoint == "custom"
        if not self.followers.follows(row):
            if self.followers.standing(row) is Standing.STRANGER:
                return 40003
            # 43004 is the code seen for templates (reference, section 11).
            return self.options.unfollowed_errcode if is_custom else 43004
        forced = self.followers.forced.get(row) if self.followers.forced else None
        if forced:
            return forced
        if is_custom:
            errcode = self.followers.spend(row, entry.at)
            entry.delivered = errcode == 0
            return errcode
        self._deliver_template(asked)
        return 0

    def _deliver_template(self, asked: _Asked) -> None:
        """Deliver, unless the same `client_msg_id` was delivered to the openid within 10 minutes.

        Choice: the repeat answers errcode 0 and the msgid of the first, as nothing documents what WeChat
        answers (reference, section 2), and a caller that repeats after a lost answer must be able to go on.
        """
        entry, number = asked.entry, len(self.calls)
        if entry.client_msg_id:
            first = self._sent_ids.find(entry.row, entry.client_msg_id)
            if first >= 0 and entry.at - self.calls.at(first) < REMEMBERED_S:
                entry.repeat = True
                asked.msgid = FIRST_MSGID + first
                return
            self._sent_ids.add(entry.row, entry.client_msg_id, number, entry.at)
        entry.delivered = True
        asked.msgid = FIRST_MSGID + number

    def _token(self, asked: _Asked) -> int:
        asked_for = {name: values[0] for name, values in parse_qs(asked.query).items()}
        errcode = self._credentials(asked_for) or self.behaviour.error("token", asked.entry.at)
        if errcode:
            return errcode
        asked.granted = self.tokens.classic(asked.entry.at)
        asked.entry.token_ok = asked.granted is not None
        return 0 if asked.granted else 45009

    def _stable_token(self, asked: _Asked) -> int:
        if asked.method != "POST":
            return 43002
        checked = bodies.parse(asked.body, _ESCAPES["stable_token"])
        errcode = checked.errcode or self._credentials(checked.message)
        errcode = errcode or self.behaviour.error("stable_token", asked.entry.at)
        if not errcode:
            asked.granted = self.tokens.stable(asked.entry.at, checked.message.get("force_refresh") is True)
            asked.entry.token_ok = True
        return errcode

    def _credentials(self, asked_for: dict[str, Any]) -> int:
        options = self.options
        if asked_for.get("grant_type") != "client_credential":
            return 40002
        if not asked_for.get("appid"):
            return 41002
        if not asked_for.get("secret"):
            return 41004
        if asked_for["appid"] != options.app_id:
            return 40013
        return 0 if asked_for["secret"] == options.app_secret else 40125

    def _note(self, asked: _Asked) -> None:
        """Record what can be read of a call that is not looked at any further."""
        if asked.entry.endpoint in SENDS:
            asked.entry.token_ok = self.tokens.check(_token_of(asked.query), asked.entry.at) == 0
            asked.message = bodies.parse(asked.body, 0).message
            self._fill(asked)

    def _fill(self, asked: _Asked) -> None:
        entry, message = asked.entry, asked.message
        name = bodies.named(message)
        if name:
            entry.row = self.followers.row(name, entry.at)
        entry.text = bodies.text_of(message)
        entry.client_msg_id = bodies.client_msg_id_of(message)


def _token_of(query: str) -> str:
    """The access token of a query; the usual form without a general parser (1 µs instead of 7)."""
    name, _, value = query.partition("=")
    if name == "access_token" and "&" not in value and "%" not in value:
        return value
    return parse_qs(query).get("access_token", [""])[0]
