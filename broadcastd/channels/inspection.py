"""How the WeChat API looks from here: name, connection, certificate, clock; for `doctor`. Sends nothing."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from aiohttp.connector import Connection
from yarl import URL

from broadcastd.channels.wechat import WechatApi
from broadcastd.outcomes import Answer

HARMLESS = "/cgi-bin/get_api_domain_ip"
"""Asks for WeChat's own addresses: needs a token and a known IP, changes nothing (reference, section 5)."""
MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reach:
    """What one request without a token met. Whatever was not come to is None."""

    trouble: str = ""
    """Why there was no answer, in plain words; empty when there was one."""
    untrusted: bool = False
    """The trouble is the certificate."""
    address: str | None = None
    took_s: float | None = None
    certificate_until: datetime | None = None
    ahead_s: float | None = None
    """How far our clock is ahead of the API's; its Date header has whole seconds."""


async def reach(api_base: str, most_s: float) -> Reach:
    """Look the name up, connect, ask. Raises nothing."""
    url = URL(api_base)
    try:
        async with asyncio.timeout(most_s):
            found = await asyncio.get_running_loop().getaddrinfo(url.host or "", url.port, type=1)
    except TimeoutError:
        return Reach(f"no answer to the look-up of the name {url.host}")
    except OSError as error:
        return Reach(f"the name {url.host} is not found: {error.strerror}")
    address = str(found[0][4][0])
    try:
        async with asyncio.timeout(most_s):
            return await _ask(URL(f"{api_base}{HARMLESS}"), address)
    except TimeoutError:
        return Reach(f"{url.host} ({address}) does not answer within {most_s:g} s", address=address)
    except aiohttp.ClientConnectorCertificateError as error:
        return Reach(_of_certificate(error.certificate_error), untrusted=True, address=address)
    except (aiohttp.ClientError, OSError) as error:
        cause: Any = getattr(error, "os_error", None) or error
        words = getattr(cause, "strerror", None) or type(cause).__name__
        return Reach(f"no connection to {url.host} ({address}): {words}", address=address)


async def _ask(url: URL, address: str) -> Reach:
    trust = ssl.create_default_context() if url.scheme == "https" else False
    connector = _Connector(ssl=trust)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        begun_s, before = time.monotonic(), datetime.now(UTC)
        async with session.get(url, allow_redirects=False) as response:
            after = datetime.now(UTC)
            return Reach(
                address=address,
                took_s=time.monotonic() - begun_s,
                certificate_until=connector.certificate_until,
                ahead_s=_ahead_s(response.headers.get("Date", ""), before, after),
            )


class _Connector(aiohttp.TCPConnector):
    """Looks at the certificate: a short answer's connection is gone before anybody else could."""

    certificate_until: datetime | None = None

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        """See aiohttp."""
        connection = await super().connect(*arguments, **options)
        transport = connection.transport
        tls = None if transport is None else transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert()
        if certificate:
            ends_s = ssl.cert_time_to_seconds(certificate["notAfter"])
            self.certificate_until = datetime.fromtimestamp(ends_s, UTC)
        return connection


def _ahead_s(date: str, before: datetime, after: datetime) -> float | None:
    """0 while the answer's second may have been ours: between the question and the answer."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    if before.timestamp() - 1 <= theirs.timestamp() <= after.timestamp():
        return 0.0
    return (before - theirs).total_seconds()


def _of_certificate(error: Exception) -> str:
    why = getattr(error, "verify_message", "") or type(error).__name__
    return f"the API's certificate is not trusted: {why}"


async def ask_harmless(api: WechatApi, token: str) -> Answer:
    """What WeChat answers to a call with this token that changes nothing."""
    raw = await api.get(HARMLESS, {"access_token": token}, MOST_BYTES)
    if isinstance(raw, Answer):
        return raw
    try:
        reply: dict[str, Any] = orjson.loads(raw)
        # A success has no errcode, and a list of addresses.
        errcode = int(reply.get("errcode") or 0)
        if errcode or isinstance(reply["ip_list"], list):
            return Answer(errcode, str(reply.get("errmsg", "")))
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return Answer(unanswered="an answer that is no WeChat answer")
