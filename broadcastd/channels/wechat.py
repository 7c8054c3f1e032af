"""Calls of the WeChat API over one aiohttp session, and what their answers are.

Three ways for a call to end (`outcomes.Answer`): answered, with an errcode; *refused*, certainly not sent;
*unanswered*, may have been sent. When in doubt which, it is the last.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import orjson
from aiohttp.connector import Connection
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import AccountSettings, HttpSettings

REFUSING_STATUSES = frozenset({412, 429, 503})
"""The server says itself that it did not take the request.

Any other status but 200 may come from something between us and WeChat, and says nothing of the message.
"""

MAX_ANSWER_BYTES = 65536
"""An answer of send is some 60 bytes. More than this is not WeChat's, and is not read."""


MSGID_DIGITS = 19
"""Of the largest 64-bit number that the ledger holds."""


class _NotAskedError(Exception):
    """The connection is there, and the call may not be made any more."""


_may_ask: ContextVar[Callable[[], bool]] = ContextVar("may_ask")
"""Of the call that this coroutine makes: a connector is given the request only."""


class _Connector(aiohttp.TCPConnector):
    """Looks once more whether the call may be made, when it has a connection for it."""

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        """See aiohttp."""
        connection = await super().connect(*arguments, **options)
        if not _may_ask.get()():
            connection.release()
            raise _NotAskedError
        return connection


class WechatApi:
    """One account's way to the API: an aiohttp session with keep-alive."""

    def __init__(self, api_base: str, settings: HttpSettings, connections: int) -> None:
        self._api_base = api_base
        self._timeout = aiohttp.ClientTimeout(
            total=settings.connect_timeout_s + settings.answer_timeout_s,
            connect=settings.connect_timeout_s,
            sock_connect=settings.connect_timeout_s,
            sock_read=settings.answer_timeout_s,
        )
        # One more than sends: a token must not wait until one of them has come back.
        self._connector = _Connector(limit=connections + 1, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=self._timeout,
            headers={"Content-Type": "application/json; charset=utf-8", "User-Agent": "broadcastd"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many may be."""
        return len(self._connector._acquired), self._connector.limit  # aiohttp tells it in no other way

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def post(self, url: URL, body: bytes, may_ask: Callable[[], bool]) -> Answer | None:
        """One call, or None. Redirects are never followed: the access token would go with them."""
        try:
            raw = await self._exchange("POST", url, body, may_ask, MAX_ANSWER_BYTES)
        except _NotAskedError:
            return None
        return raw if isinstance(raw, Answer) else _read(raw)

    async def ask(self, path: str, body: bytes, token: str | None = None) -> bytes | Answer:
        """What a path that sends nothing answers with, or what went wrong."""
        url = URL(f"{self._api_base}{path}")
        if token is not None:
            url = url.with_query(access_token=token)
        return await self._exchange("POST", url, body, lambda: True, MAX_ANSWER_BYTES)

    async def get(self, path: str, query: Mapping[str, str], most_bytes: int) -> bytes | Answer:
        """What a path that changes nothing answers with, or what went wrong."""
        url = URL(f"{self._api_base}{path}").with_query(query)
        return await self._exchange("GET", url, None, lambda: True, most_bytes)

    async def _exchange(
        self, method: str, url: URL, body: bytes | None, may_ask: Callable[[], bool], most_bytes: int
    ) -> bytes | Answer:
        _may_ask.set(may_ask)
        try:
            async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                if response.status != 200:
                    return _by_status(response.status)
                raw = await response.content.read(most_bytes + 1)
                while raw and not response.content.at_eof() and len(raw) <= most_bytes:
                    raw += await response.content.read(most_bytes + 1 - len(raw))
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            return Answer(refused=_connect_trouble(error))
        except TimeoutError:
            return Answer(unanswered="no answer in time")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Answer(unanswered=f"the connection broke: {type(error).__name__}")
        if len(raw) > most_bytes:
            return Answer(unanswered="an answer far too long for WeChat")
        return raw

    def endpoint(self, path: str) -> "Endpoint":
        """One path of the API."""
        return Endpoint(self, f"{self._api_base}{path}")


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
        return await self._endpoint.post(body, token, may_ask)


class WechatMessage:
    """Implements `Message`: the JSON around the openid is made once. For calls without a message id."""

    def __init__(self, rest: bytes) -> None:
        """`rest`: the body's JSON object without `touser`."""
        self._tail = b"," + rest[1:]

    def body(self, openid: str, message_id: str) -> bytes:
        """See `Message`."""
        del message_id
        return b'{"touser":' + orjson.dumps(openid) + self._tail


class Endpoint:
    """One path of the API. Its address is built once a token, not once a call."""

    def __init__(self, api: WechatApi, address: str) -> None:
        self._api = api
        self._address = address
        self._url = URL(address)
        self._token: str | None = None

    async def post(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        """One call with this access token; see `Channel.attempt`."""
        if token != self._token:
            self._url = URL(self._address).with_query(access_token=token)
            self._token = token
        return await self._api.post(self._url, body, may_ask)


def _by_status(status: int) -> Answer:
    if status in REFUSING_STATUSES:
        return Answer(refused=f"HTTP {status}")
    return Answer(unanswered=f"HTTP {status}")


def _connect_trouble(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError) or isinstance(
        error.__cause__, ssl.SSLCertVerificationError
    ):
        return "the server's certificate is not trusted"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection in time"
    cause: Any = getattr(error, "os_error", None) or error
    return f"no connection: {getattr(cause, 'strerror', None) or cause}"


def _read(raw: bytes) -> Answer:
    try:
        reply = orjson.loads(raw)
        errcode = int(reply["errcode"])
        if abs(errcode) < 2**31:
            msgid = _msgid(reply.get("msgid", reply.get("msg_id")))
            return Answer(errcode, str(reply.get("errmsg", "")), msgid=msgid)
        return Answer(unanswered="an errcode that is none of WeChat's")
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
        return Answer(unanswered="an answer that is no WeChat answer" if raw else "an empty answer")


def _msgid(value: Any) -> int | None:
    """A 64-bit number or its digits. Never a float: it would be another message's."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MSGID_DIGITS:
        value = int(value)
    return value if type(value) is int and 0 < value < 2**63 else None
