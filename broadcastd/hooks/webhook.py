"""Tells a site by a signed POST. docs/hooks.md says how it is verified."""

import asyncio
import hashlib
import hmac
from datetime import datetime
from typing import Any

import aiohttp
import orjson
from yarl import URL

from broadcastd import __version__
from broadcastd.finished_settings import FinishedSettings
from broadcastd.model import Job
from broadcastd.outcomes import Outcome

SIGNATURE = "X-Broadcastd-Signature"
REDIRECTED = "a redirect, which is not followed: give its target as `url`"


class Webhook:
    """Implements `FinishHook`. `close` it."""

    name = "url"

    def __init__(self, settings: FinishedSettings) -> None:
        assert settings.url is not None
        assert settings.secret is not None
        self._url = settings.url.get_secret_value()
        self._secret = settings.secret.get_secret_value().encode()
        self._timeout_s = settings.timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def tell(self, job: Job, now: datetime) -> str:
        """See `FinishHook`."""
        body = body_of(job)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"broadcastd/{__version__}",
            SIGNATURE: signature(self._secret, int(now.timestamp()), body),
        }
        try:
            async with self._opened().post(
                URL(self._url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            return f"no answer: {type(error).__name__}"
        if 200 <= status < 300:
            return ""
        return f"HTTP {status}" + (f": {REDIRECTED}" if 300 <= status < 400 else "")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No answer is read: only its status counts.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=2, ttl_dns_cache=60, force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


def body_of(job: Job) -> bytes:
    """What is posted: the same for the same end of a job, so that a repeat can be told."""
    return orjson.dumps(
        {
            "job": job.id,
            "key": job.key,
            "ref": job.ref,
            "account": job.account,
            "state": job.state.value,
            "reason": job.reason,
            "round": job.round.no,
            "books": _books(job),
            "accepted_at": _iso(job.accepted_at),
            "finished_at": _iso(job.finished_at),
        }
    )


def _books(job: Job) -> dict[str, Any]:
    """As the port's replies have them (docs/protocol.md), without what grows later."""
    books = job.books
    return {
        "recipients": books.recipients,
        **{outcome.value: books.outcomes.get(outcome, 0) for outcome in Outcome},
        "by_channel": dict(sorted(books.sent_by_channel.items())),
        "errcodes": {str(code): n for code, n in sorted(books.errcodes.items())},
        "in_doubt": books.in_doubt,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def signature(secret: bytes, at_s: int, body: bytes) -> str:
    """`t=UNIX,v1=HEX`: HMAC-SHA256 over the time, a dot and the body."""
    mac = hmac.new(secret, f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={mac.hexdigest()}"
