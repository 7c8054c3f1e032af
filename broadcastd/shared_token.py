"""An access token as all tasks of an account share it, wherever it comes from. No I/O of its own."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.errors import TokenUnavailableError
from broadcastd.retry import Backoff

log = structlog.get_logger()

SETTLED_S = 60.0
"""A token that served for so long was good: when it is refused now, pauses begin to grow anew."""


class NoTokenError(Exception):
    """There is no token that is worth trying; the text says why, `pauses` how long to wait."""

    def __init__(self, words: str, pauses: Backoff = retry.TOKEN, *, needs_operator: bool = False) -> None:
        super().__init__(words)
        self.pauses = pauses
        self.needs_operator = needs_operator


class SharedToken(ABC):
    """Implements `TokenSource` over `_found`, which one task at a time calls.

    However many find the token stale at once, one fetches, and its success or failure is everybody's: until
    the pause after a failure is over, nobody tries again. 60 tasks with 16 sends each would else ask a
    thousand times.
    """

    def __init__(self, account: str, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._present: str | None = None
        self._present_since_s = -inf
        self._refused: str | None = None
        self._fetched: asyncio.Event | None = None
        self._failures = 0
        self._words = ""
        self._needs_operator = False
        self._not_before_s = -inf

    @abstractmethod
    async def _found(self) -> str:
        """The token as its source has it now. Raises NoTokenError."""

    @property
    def trouble(self) -> str:
        """See `TokenSource`."""
        return self._words if self._present is None else ""

    @property
    def present(self) -> str | None:
        """See `TokenSource`."""
        return self._present

    async def token(self) -> str:
        """See `TokenSource`."""
        while self._present is None:
            if self._fetched is not None:
                # All wake in the same turn. A lock would let them through one by one, each a turn later.
                await self._fetched.wait()
            elif (left_s := self._not_before_s - self._clock.monotonic_s()) > 0:
                raise TokenUnavailableError(self._words, left_s, needs_operator=self._needs_operator)
            else:
                await self._fetch()
        return self._present

    async def look(self) -> str:
        """See `TokenSource`."""
        await self.token()
        return ""

    def discard(self, token: str) -> None:
        """See `TokenSource`."""
        if token != self._present:
            return
        if self._clock.monotonic_s() - self._present_since_s >= SETTLED_S:
            self._failures = 0
        self._refused = token
        self._present = None

    def ask_again(self) -> None:
        """See `TokenSource`."""
        self._not_before_s = -inf

    @abstractmethod
    async def keep(self) -> None:
        """See `TokenSource`."""

    def _doubted(self, token: str) -> bool:
        """Whether WeChat refused this very token, and it is not in use again."""
        return self._present is None and token == self._refused

    async def _renew(self, due: Callable[[], bool]) -> None:
        """Fetch ahead of need, if it is `due` when it is our turn; the present token serves meanwhile."""
        while self._fetched is not None:
            await self._fetched.wait()
        if due() and self._clock.monotonic_s() >= self._not_before_s:
            await self._fetch()

    async def _fetch(self) -> None:
        fetched = self._fetched = asyncio.Event()
        try:
            self._succeeded(await self._found())
        except NoTokenError as error:
            self._failed(error)
        finally:
            # Also when it was cancelled: one of those who wait fetches then.
            self._fetched = None
            fetched.set()

    def _succeeded(self, token: str) -> None:
        if token != self._refused:
            self._failures = 0
        if token != self._present:
            self._present_since_s = self._clock.monotonic_s()
        self._words = ""
        self._present = token

    def _failed(self, error: NoTokenError) -> None:
        self._failures += 1
        self._needs_operator = error.needs_operator
        pause_s = error.pauses.delay_s(self._failures)
        self._not_before_s = self._clock.monotonic_s() + pause_s
        self._words = str(error)
        event = "token_unavailable" if self._present is None else "token_not_renewed"
        log.warning(event, account=self._account, error=self._words, retry_in_s=round(pause_s, 1))
