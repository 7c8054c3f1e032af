"""Calls of the WeChat API over a transport, and what their answers are.

Three ways for a call to end (`outcomes.Answer`): answered, with an errcode; *refused*, certainly not sent;
*unanswered*, may have been sent. When in doubt which, it is the last.
"""

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import AccountSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES, CallSource, Raw, Transport

MSGID_DIGITS = 19
"""Of the largest 64-bit number that the ledger holds."""


class WechatApi:
    """One account's way to the API."""

    def __init__(self, api_base: str, transport: Transport) -> None:
        self._api_base = api_base
        self._transport = transport

    async def close(self) -> None:
        """Close its connections."""
        await self._transport.close()

    async def ask(self, path: str, body: bytes, token: str | None = None) -> Raw:
        """What a path that sends nothing answers with, or what went wrong."""
        url = URL(f"{self._api_base}{path}")
        if token is not None:
            url = url.with_query(access_token=token)
        return await self._always("POST", url, body, MAX_ANSWER_BYTES)

    async def get(self, path: str, query: Mapping[str, str], most_bytes: int) -> Raw:
        """What a path that changes nothing answers with, or what went wrong."""
        return await self._always("GET", URL(f"{self._api_base}{path}").with_query(query), None, most_bytes)

    async def _always(self, method: str, url: URL, body: bytes | None, most_bytes: int) -> Raw:
        raw = await self._transport.exchange(method, url, body, lambda: True, most_bytes)
        assert raw is not None
        return raw

    def endpoint(self, path: str) -> "Endpoint":
        """One path of the API."""
        return Endpoint(self._transport, f"{self._api_base}{path}")


class WechatChannel:
    """What the channels of WeChat have in common."""

    name: str
    path: str
    templates: Collection[str] = ()

    def __init__(self, api: WechatApi, account: AccountSettings) -> None:
        self._endpoint = api.endpoint(self.path)
        self._timezone = ZoneInfo(account.timezone)

    async def attempt(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        """See `Channel`."""
        raw = await self._endpoint.post(body, token, may_ask)
        return None if raw is None else read_answer(raw)

    def make_calls(self, source: CallSource, token: str) -> Coroutine[Any, Any, None]:
        """See `Channel`. No coroutine of its own: each would be gone through at every step of a call."""
        return self._endpoint.make_calls(source, token)

    @staticmethod
    def read(raw: Raw) -> Answer:
        """See `Channel`."""
        return read_answer(raw)


class WechatMessage:
    """Implements `Message`: the JSON around the openid is made once. For calls without a message id."""

    names_itself = False

    def __init__(self, rest: bytes) -> None:
        """`rest`: the body's JSON object without `touser`."""
        self._tail = b"," + rest[1:]

    def body(self, openid: str, message_id: str) -> bytes:
        """See `Message`."""
        del message_id
        return b'{"touser":' + orjson.dumps(openid) + self._tail


class Endpoint:
    """One path of the API. Its address is built once a token, not once a call."""

    def __init__(self, transport: Transport, address: str) -> None:
        self._transport = transport
        self._address = address
        self._url = URL(address)
        self._token: str | None = None

    async def post(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Raw | None:
        """One call with this access token; see `Channel.attempt`."""
        return await self._transport.exchange("POST", self._with(token), body, may_ask, MAX_ANSWER_BYTES)

    def make_calls(self, source: CallSource, token: str) -> Coroutine[Any, Any, None]:
        """One call after the other with this access token; see `Channel.make_calls`."""
        return self._transport.make_calls(self._with(token), source)

    def _with(self, token: str) -> URL:
        if token != self._token:
            self._url = URL(self._address).with_query(access_token=token)
            self._token = token
        return self._url


def read_answer(raw: Raw) -> Answer:
    """What WeChat says in the body of an HTTP 200."""
    if isinstance(raw, Answer):
        return raw
    try:
        reply = _parsed(raw)
        errcode = int(reply["errcode"])
        if abs(errcode) < 2**31:
            msgid = _msgid(reply.get("msgid", reply.get("msg_id")))
            return Answer(errcode, str(reply.get("errmsg", "")), msgid=msgid)
        return Answer(unanswered="an errcode that is none of WeChat's")
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
        return Answer(unanswered="an answer that is no WeChat answer" if raw else "an empty answer")


def _parsed(raw: bytes) -> Any:
    """JSON. What is no UTF-8 in a text, or a mark before it all, leaves an errcode readable."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return orjson.loads(raw.decode("utf-8-sig", "replace"))


def _msgid(value: Any) -> int | None:
    """A 64-bit number or its digits. Never a float: it would be another message's."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MSGID_DIGITS:
        value = int(value)
    return value if type(value) is int and 0 < value < 2**63 else None
