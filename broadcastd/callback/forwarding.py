"""Passes requests on to the callback that the site has already, and brings its answer back in time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import structlog
from yarl import URL

log = structlog.get_logger()

MAX_ANSWER_BYTES = 64 * 1024
FORWARDED = "X-Broadcastd-Forwarded"
"""Marks what was passed on: a `forward_to` that leads back here must not go round for ever."""

PASSED_ON = ("Content-Type", "User-Agent")
"""Headers of the request that the site may look at."""


@dataclass(frozen=True, slots=True)
class SiteAnswer:
    """What the site's callback said, with HTTP 200."""

    body: bytes
    content_type: str

    @property
    def says_something(self) -> bool:
        """Whether it is more than: received."""
        return self.body.strip() not in (b"", b"success", b'"success"')


class Forwarder:
    """One account's way to the site's own callback. `close` it."""

    def __init__(self, url: str, timeout_s: float, account: str) -> None:
        self._url = url
        self._account = account
        self.failures = 0
        """Since the start."""
        self._failing = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def pass_on(self, raw_query: str, body: bytes, headers: Mapping[str, str]) -> SiteAnswer | None:
        """The site's answer; None when it gives none in time. Redirects are not followed."""
        if FORWARDED in headers:
            return self._failed("forward_to leads back to broadcastd itself")
        url = URL(f"{self._url}{'&' if '?' in self._url else '?'}{raw_query}", encoded=True)
        passed = {name: headers[name] for name in PASSED_ON if name in headers}
        try:
            sent = {**passed, "Accept-Encoding": "identity", FORWARDED: "1"}
            async with self._session.post(url, data=body, headers=sent, allow_redirects=False) as response:
                if response.status != 200:
                    return self._failed(f"HTTP {response.status}")
                answer = await response.content.read(MAX_ANSWER_BYTES + 1)
                while answer and not response.content.at_eof() and len(answer) <= MAX_ANSWER_BYTES:
                    answer += await response.content.read(MAX_ANSWER_BYTES + 1 - len(answer))
                if len(answer) > MAX_ANSWER_BYTES:
                    return self._failed("an answer far too long for WeChat")
                content_type = response.headers.get("Content-Type", "text/xml")
        except TimeoutError:
            return self._failed("no answer in time")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            return self._failed(f"no answer: {type(error).__name__}")
        if self._failing:
            self._failing = False
            log.info("forward_works_again", account=self._account)
        return SiteAnswer(answer, content_type)

    def _failed(self, why: str) -> SiteAnswer | None:
        self.failures += 1
        if not self._failing:
            self._failing = True
            log.warning("forward_failed", account=self._account, error=why)
        return None
