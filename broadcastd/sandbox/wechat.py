"""The imitation: from a request to its answer and its record. No I/O, time is handed in."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from urllib.parse import parse_qs

import orjson

from broadcastd.sandbox import bodies
from broadcastd.sandbox.asked import Account, Asked
from broadcastd.sandbox.behaviour import Behaviour, is_looked_at
from broadcastd.sandbox.calls import Entry
from broadcastd.sandbox.consents import Consents
from broadcastd.sandbox.endpoints import BY_PATH, SENDS, Endpoint, name_of
from broadcastd.sandbox.errmsgs import errmsg
from broadcastd.sandbox.events import Event
from broadcastd.sandbox.followers import Followers
from broadcastd.sandbox.mass import Mass
from broadcastd.sandbox.options import Options
from broadcastd.sandbox.questions import Questions
from broadcastd.sandbox.quotas import Quotas
from broadcastd.sandbox.results import Results
from broadcastd.sandbox.sends import Sends
from broadcastd.sandbox.tokens import Token, Tokens

_OK = b'{"errcode":0,"errmsg":"ok"}'
_Step = Callable[[Asked], int]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer's body, the outage that meets the caller, the number of the call, what is to be pushed."""

    body: bytes
    outage: str = ""
    number: int = -1
    events: tuple[Event, ...] = ()


class WeChat:
    """One imitated account, asked."""

    def __init__(self, options: Options, behaviour: Behaviour, now: float) -> None:
        account = self.account = Account(
            options,
            behaviour,
            Followers(options, now),
            Consents(options.consents),
            Tokens(options.expires_in_s, now, options.token),
            Quotas(options.numbered, now),
            Results(options.seed),
        )
        account.quotas.change(options.quotas, now)
        account.results.change(options.results)
        self.options, self.behaviour, self.followers = options, behaviour, account.followers
        self.tokens, self.calls = account.tokens, account.calls
        self._random = Random(options.seed)  # noqa: S311  # only for request ids
        self._steps = self._all_steps()

    def ask(self, method: str, target: str, body: bytes, now: float) -> Reply:
        """Answer one request (`target` is path and query as they came), and record it."""
        path, _, query = target.partition("?")
        endpoint = BY_PATH.get(path)
        entry = Entry(now, endpoint.name if endpoint else name_of(path))
        asked = Asked(entry, method, query, body)
        entry.outage = self.behaviour.outage(entry.endpoint, now)
        if entry.outage and not is_looked_at(entry.outage):
            entry.processed = False
            self._note(asked)
            self.calls.add(entry)
            return Reply(b"", entry.outage, len(self.calls) - 1)
        # What the real service says of a path that it does not have; not in the reference.
        entry.errcode = self._answer(asked, endpoint) if endpoint else 40066
        reply = self._render(asked)
        self.calls.add(entry)
        return Reply(reply, entry.outage, len(self.calls) - 1, asked.events)

    def _all_steps(self) -> dict[str, tuple[_Step, _Step]]:
        """Of each endpoint: the check of what was sent, and what follows from it."""
        sends, mass, questions = Sends(self.account), Mass(self.account), Questions(self.account)
        return {
            "token": (self._check_credentials, self._token),
            "stable_token": (self._check_credentials, self._stable_token),
            "custom": (sends.check_custom, sends.custom),
            "template": (sends.check_template, sends.template),
            "subscribe": (sends.check_template, sends.subscribe),
            "mass": (mass.check, mass.send),
            "mass_get": (_pass, mass.get),
            "user_get": (_pass, questions.user_get),
            "quota_get": (_pass, questions.quota_get),
            "clear_quota": (_pass, questions.clear_quota),
            "clear_quota_v2": (_pass, questions.clear_quota_v2),
            "api_domain_ip": (_pass, questions.ips),
            "callback_ip": (_pass, questions.ips),
        }

    def _answer(self, asked: Asked, endpoint: Endpoint) -> int:
        errcode = self._admit(asked, endpoint)
        if errcode:
            self._note(asked)
            return errcode
        if endpoint.is_post:
            checked = bodies.parse(asked.body, endpoint.escapes_errcode)
            asked.message, errcode = checked.message, checked.errcode
        elif asked.query:
            asked.message = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if endpoint.name in SENDS:
            self._fill(asked)
        check, follow = self._steps[endpoint.name]
        return errcode or check(asked) or self.behaviour.error(endpoint.name, asked.entry.at) or follow(asked)

    def _admit(self, asked: Asked, endpoint: Endpoint) -> int:
        """Token, method and quota, in this order; a call without a token is counted when it is granted."""
        entry = asked.entry
        if endpoint.takes_token:
            errcode = self.tokens.check(_token_of(asked.query), entry.at)
            entry.token_ok = errcode == 0
            if errcode:
                return errcode
        if endpoint.is_post and asked.method != "POST":
            return 43002
        return self.account.quotas.spend(endpoint.name, entry.at) if endpoint.takes_token else 0

    def _render(self, asked: Asked) -> bytes:
        errcode = asked.entry.errcode
        if errcode:
            rid = f"{int(asked.entry.at):08x}-{self._random.getrandbits(32):08x}-{len(self.calls):08x}"
            text = f"{errmsg(errcode)}{asked.detail} rid: {rid}"
            return orjson.dumps({"errcode": errcode, "errmsg": text, **(asked.answer or {})})
        if asked.msgid:
            return b'{"errcode":0,"errmsg":"ok","msgid":%d}' % asked.msgid
        return _OK if asked.answer is None else orjson.dumps(asked.answer)

    def _token(self, asked: Asked) -> int:
        errcode = self.account.quotas.spend("token", asked.entry.at)
        return errcode or _grant(asked, self.tokens.renew(asked.entry.at))

    def _stable_token(self, asked: Asked) -> int:
        now, force = asked.entry.at, asked.message.get("force_refresh") is True
        errcode = self.account.quotas.spend("stable_token", now)
        return errcode or _grant(asked, self.tokens.stable(now, force))

    def _check_credentials(self, asked: Asked) -> int:
        options, given = self.options, asked.message
        if given.get("grant_type") != "client_credential":
            return 40002
        if not given.get("appid"):
            return 41002
        if not given.get("secret"):
            return 41004
        if given["appid"] != options.app_id:
            return 40013
        return 0 if given["secret"] == options.app_secret else 40125

    def _note(self, asked: Asked) -> None:
        """Record what can be read of a send that is not looked at any further."""
        if asked.entry.endpoint in SENDS:
            asked.entry.token_ok = self.tokens.check(_token_of(asked.query), asked.entry.at) == 0
            asked.message = bodies.parse(asked.body, 0).message
            self._fill(asked)

    def _fill(self, asked: Asked) -> None:
        entry, message = asked.entry, asked.message
        name = bodies.named(message)
        if name:
            entry.row = self.followers.row(name, entry.at)
        entry.text = bodies.text_of(message)
        entry.client_msg_id = bodies.client_msg_id_of(message)


def _pass(_: Asked) -> int:
    return 0


def _grant(asked: Asked, token: Token) -> int:
    asked.answer = {"access_token": token.text, "expires_in": round(token.expires_at - asked.entry.at)}
    asked.entry.token_ok = True
    return 0


def _token_of(query: str) -> str:
    """The access token of a query; the usual form without a general parser (1 µs instead of 7)."""
    name, _, value = query.partition("=")
    if name == "access_token" and "&" not in value and "%" not in value:
        return value
    return parse_qs(query).get("access_token", [""])[0]
