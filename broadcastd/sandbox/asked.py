"""One call on its way through the checks, and what is known of the account that it asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broadcastd.sandbox.behaviour import Behaviour
from broadcastd.sandbox.calls import Calls, Entry
from broadcastd.sandbox.consents import Consents
from broadcastd.sandbox.events import Event
from broadcastd.sandbox.followers import Followers
from broadcastd.sandbox.options import Options
from broadcastd.sandbox.quotas import Quotas
from broadcastd.sandbox.results import Results
from broadcastd.sandbox.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Account:
    """The imitated account: who follows it, what is left of its quotas, how it misbehaves, its record."""

    options: Options
    behaviour: Behaviour
    followers: Followers
    consents: Consents
    tokens: Tokens
    quotas: Quotas
    results: Results
    calls: Calls = field(default_factory=Calls)

    def event(self, openid: str, kind: str, fields: Mapping[str, Any], at: float) -> Event:
        """An event of this account, to be pushed at `at`."""
        return Event(kind, self.options.user_name, openid, at, {"MsgType": "event", "Event": kind, **fields})


@dataclass(slots=True)
class Asked:
    """A call: what came, what could be read of it, and what is to be answered beside the errcode.

    `answer` is the whole answer of a success, and what an errcode's answer has more than errcode and errmsg.
    """

    entry: Entry
    method: str
    query: str
    body: bytes
    message: dict[str, Any] = field(default_factory=dict)
    detail: str = ""
    msgid: int = 0
    answer: dict[str, Any] | None = None
    events: tuple[Event, ...] = ()
