"""One account's callback: opens what comes, has it taken in, replies. Knows no sockets."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from broadcastd.callback.envelope import FORBIDDEN, Envelope, Opened, Query, Refused
from broadcastd.callback.forwarding import Forwarder, SiteAnswer
from broadcastd.callback.replies import SUCCESS, sealed, text_reply
from broadcastd.clock import Clock
from broadcastd.errors import LedgerUnavailableError
from broadcastd.pushes import Push, Word

log = structlog.get_logger()

LOG_EVERY_S = 60.0
"""Anybody can send what is refused: one line a minute, with how many."""
LONGEST_ECHO = 1024
PLAIN_TEXT = "text/plain"
XML, JSON = "text/xml", "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """As much of an HTTP request as counts."""

    query: Query
    raw_query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """As much of an HTTP response as there is."""

    status: int
    body: bytes = b""
    content_type: str = PLAIN_TEXT


NOT_TAKEN = Reply(503)
"""WeChat takes whatever is not 200 for no answer, and pushes again (three more times were seen)."""


class Receives(Protocol):
    """The use case."""

    async def take(self, account: str, push: Push) -> Word | None:
        """Return once the push is on disk and in force: what it asks for. Raises LedgerUnavailableError."""
        ...


class Endpoint:
    """One account's."""

    def __init__(
        self,
        account: str,
        envelope: Envelope,
        replies: Mapping[Word, str],
        reception: Receives,
        clock: Clock,
        forwarder: Forwarder | None = None,
    ) -> None:
        self.account = account
        self.forwarder = forwarder
        self.received = 0
        self.refused = 0
        """Since the start."""
        self._envelope = envelope
        self._replies = replies
        self._reception = reception
        self._clock = clock
        self._log_at_s = clock.monotonic_s()
        self._unlogged = 0

    def verify(self, request: Request) -> Reply:
        """Answer WeChat's console, which asks (GET) whether the token is known here."""
        echo = request.query.get("echostr", "")
        if not self._envelope.is_from_wechat(request.query) or len(echo) > LONGEST_ECHO:
            return self._refuse(Refused(FORBIDDEN, "a verification whose signature is wrong"))
        log.info("callback_verified", account=self.account)
        return Reply(200, echo.encode(errors="replace"))

    async def push(self, request: Request) -> Reply:
        """Take a push in, have the site see it too, and answer for both."""
        opened = self._envelope.open(request.query, request.body, self._clock.now().timestamp())
        if isinstance(opened, Refused):
            return self._refuse(opened)
        self.received += 1
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(self._take(opened), name="push taken")
            forwarding = group.create_task(self._forward(request), name="push forwarded")
        own, sites = taking.result(), forwarding.result()
        if own is not NOT_TAKEN and sites is not None and sites.says_something:
            return Reply(200, sites.body, sites.content_type)
        return own

    async def _take(self, opened: Opened) -> Reply:
        try:
            word = await self._reception.take(self.account, opened.push)
        except LedgerUnavailableError as error:
            log.warning("push_not_taken", account=self.account, error=str(error))
            return NOT_TAKEN
        text = self._replies.get(word, "") if word is not None else ""
        if not text:
            return Reply(200, SUCCESS)
        now_s, as_json = int(self._clock.now().timestamp()), opened.as_json
        body = text_reply(opened.push, text, now_s, as_json=as_json)
        if opened.cipher is not None:
            token = self._envelope.token
            body = sealed(body, opened.cipher, token, opened.nonce, now_s, as_json=as_json)
        return Reply(200, body, JSON if as_json else XML)

    async def _forward(self, request: Request) -> SiteAnswer | None:
        if self.forwarder is None:
            return None
        return await self.forwarder.pass_on(request.raw_query, request.body, request.headers)

    def _refuse(self, refused: Refused) -> Reply:
        self.refused += 1
        self._unlogged += 1
        now_s = self._clock.monotonic_s()
        if now_s >= self._log_at_s:
            log.warning(
                "push_refused",
                account=self.account,
                status=refused.status,
                reason=refused.reason,
                refused=self._unlogged,
            )
            self._unlogged = 0
            self._log_at_s = now_s + LOG_EVERY_S
        return Reply(refused.status)
