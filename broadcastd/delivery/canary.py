"""Whether a job would go through, without one: a commit, the audience's first page, a token. Nothing is sent.

No job is made, no key is taken, no call of a quota is used. However many ask, one look is under way, and all
of them are told what it found.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.errors import AudienceUnavailableError, LedgerUnavailableError, TokenUnavailableError

log = structlog.get_logger()

LONGEST_S = 10.0
"""Of each part; they are looked at together."""
FRESH_S = 2.0
"""Who asks again so soon is told the same."""
OK = "ok"


@dataclass(frozen=True, slots=True)
class Sung:
    """What one look found: `ok`, or why not, in words."""

    at_s: float
    """Monotonic."""
    intake: str
    plan: Mapping[str, str]
    """By account."""
    token: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        """Whether everything is."""
        return all(word == OK for word in (self.intake, *self.plan.values(), *self.token.values()))


class Canary:
    """`commit`: bring something to the ledger's disk, or raise LedgerUnavailableError. `not_durable`: why no
    job could be put there, or empty (`Intake`)."""

    def __init__(
        self,
        commit: Callable[[], Awaitable[None]],
        accounts: Mapping[str, Account],
        not_durable: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._commit = commit
        self._accounts = accounts
        self._not_durable = not_durable
        self._clock = clock
        self._last: Sung | None = None
        self._singing: asyncio.Task[Sung] | None = None

    async def look(self) -> Sung:
        """What is found now, or was found a moment ago."""
        last = self._last
        if last is not None and self._clock.monotonic_s() - last.at_s < FRESH_S:
            return last
        if self._singing is None or self._singing.done():
            self._singing = asyncio.create_task(self._sing(), name="canary")
        # Who hangs up does not end it for the others.
        return await asyncio.shield(self._singing)

    async def close(self) -> None:
        """End a look that is under way."""
        if self._singing is not None:
            self._singing.cancel()
            await asyncio.gather(self._singing, return_exceptions=True)

    async def _sing(self) -> Sung:
        names = list(self._accounts)
        intake, *parts = await asyncio.gather(
            _bounded(self._intake),
            *(_bounded(self._plan, self._accounts[name]) for name in names),
            *(_bounded(self._token, self._accounts[name]) for name in names),
        )
        plan, token = parts[: len(names)], parts[len(names) :]
        self._last = Sung(
            self._clock.monotonic_s(),
            intake,
            dict(zip(names, plan, strict=True)),
            dict(zip(names, token, strict=True)),
        )
        if not self._last.healthy:
            log.warning("canary_failed", intake=intake, plan=self._last.plan, tokens=self._last.token)
        return self._last

    async def _intake(self) -> str:
        try:
            await self._commit()
        except LedgerUnavailableError as error:
            return str(error)
        return self._not_durable() or OK

    async def _plan(self, account: Account) -> str:
        try:
            await account.audience.page(self._clock.now(), 0, 1)
        except AudienceUnavailableError as error:
            return str(error)
        return OK

    async def _token(self, account: Account) -> str:
        try:
            return await account.tokens.look() or OK
        except TokenUnavailableError as error:
            return str(error)


async def _bounded(part: Callable[..., Awaitable[str]], *args: Account) -> str:
    try:
        async with asyncio.timeout(LONGEST_S):
            return await part(*args)
    except TimeoutError:
        return f"no answer within {LONGEST_S:g} s"
    # One part's bug must not hide what the others say.
    except Exception as error:
        log.exception("canary_part_failed")
        return f"an internal error: {type(error).__name__}"
