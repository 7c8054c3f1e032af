"""One account's quotas: asks WeChat for them, keeps the last figures, and has them reset."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.forecast import Seen
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.errors import TokenUnavailableError
from broadcastd.model import Quota
from broadcastd.outcomes import Answer
from broadcastd.quota_ports import QuotaSource

log = structlog.get_logger()
T = TypeVar("T")

ANSWER_S = 10.0
"""How long a question may take, the access token for it included: somebody may be waiting at a terminal."""
FRESH_S = 1.0
"""Figures that several jobs planned at once share."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why WeChat did not do as it was asked."""

    words: str
    of_token: bool = False
    """It was not asked at all, or has refused the access token."""


class AccountQuotas:
    """Asks one thing at a time."""

    def __init__(self, account: Account, source: QuotaSource, clock: Clock) -> None:
        self.account = account
        self.source = source
        self._clock = clock
        self._turn = asyncio.Lock()
        self._seen: dict[str, Seen] = {}
        self._troubles: dict[str, str] = {}
        self._looked_at_s: dict[str, float] = {}

    @property
    def seen(self) -> Mapping[str, Seen]:
        """The last figures of each channel."""
        return self._seen

    @property
    def troubles(self) -> Mapping[str, str]:
        """Why the last look at a channel brought none."""
        return self._troubles

    async def look(self, channel: str) -> Quota | Trouble:
        """The figures of a channel now."""
        path = self.account.channels[channel].path
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_S):
                    found = await self._asked(lambda token: self.source.get(path, token))
            except TimeoutError:
                found = Trouble(f"WeChat has not answered within {ANSWER_S:g} s")
            if isinstance(found, Trouble):
                if self._troubles.get(channel) != found.words:
                    log.warning(
                        "quota_unknown", account=self.account.name, channel=channel, error=found.words
                    )
                self._troubles[channel] = found.words
            else:
                self._troubles.pop(channel, None)
                self._seen[channel] = Seen(found, self._clock.now())
                self._looked_at_s[channel] = self._clock.monotonic_s()
            return found

    async def look_at_all(self) -> None:
        """Have figures of every channel that are not older than a moment."""
        for channel in self.account.channels:
            looked_at_s = self._looked_at_s.get(channel)
            if looked_at_s is None or self._clock.monotonic_s() - looked_at_s > FRESH_S:
                await self.look(channel)

    async def clear(self) -> Trouble | None:
        """Reset the day's calls; why it was not done, or None. Only ever because somebody said so."""
        async with self._turn:
            answer = await self._asked(self.source.clear)
            # Never after an answer that did not come: it may have been done, and each one counts.
            if answer is not None and answer.of_token and self.source.has_secret:
                answer = _read(await self.source.clear(None))
        if answer is not None:
            log.warning("quota_not_cleared", account=self.account.name, error=answer.words)
            return answer
        self._looked_at_s.clear()
        log.warning("quota_cleared", account=self.account.name)
        return None

    async def _asked(self, call: Callable[[str], Awaitable[T | Answer]]) -> T | Trouble:
        """One call, and one more with a new token when the first was stale."""
        tokens = self.account.tokens
        answer: T | Answer
        try:
            token = await tokens.token()
            answer = await call(token)
            if isinstance(answer, Answer) and _is_stale(answer):
                tokens.discard(token)
                token = await tokens.token()
                answer = await call(token)
                if isinstance(answer, Answer) and _is_stale(answer):
                    tokens.discard(token)
        except TokenUnavailableError as error:
            return Trouble(str(error), of_token=True)
        return _read(answer)


def _read(answer: T | Answer) -> T | Trouble:
    if not isinstance(answer, Answer):
        return answer
    if answer.answered:
        return Trouble(in_words(answer.errcode), of_token=_is_stale(answer))
    if answer.refused:
        return Trouble(f"WeChat cannot be reached: {answer.refused}")
    return Trouble(f"WeChat does not answer, and may have done it: {answer.unanswered}")


def _is_stale(answer: Answer) -> bool:
    return answer.answered and meaning_of(answer.errcode).action is Action.REFRESH
