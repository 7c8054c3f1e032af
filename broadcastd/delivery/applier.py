"""Has the site's database know what followers did, for as long as it takes: no kill or outage costs one.

A statement may run twice, after a kill right behind it; what it sets is the same then. One follower's pushes
run in their order.
"""

import asyncio

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.opt_outs import OptOuts
from broadcastd.errors import AudienceUnavailableError, LedgerUnavailableError
from broadcastd.ports import Ledger, Registry
from broadcastd.pushes import WaitingPush

log = structlog.get_logger()

AT_ONCE = 200
MOST_FAILED = 3
"""Followers whose statement fails until the rest of a pass is spared: the database is down, more likely."""


class Applier:
    """One account's. `run` must be running."""

    def __init__(
        self, account: str, registry: Registry, ledger: Ledger, opt_outs: OptOuts, clock: Clock
    ) -> None:
        self._account = account
        self._registry = registry
        self._ledger = ledger
        self._opt_outs = opt_outs
        self._clock = clock
        self._wake = asyncio.Event()
        self.applied = 0
        """Since the start."""
        self.waiting = 0
        self.trouble = ""
        """Why statements wait; empty when none does."""

    async def restore(self) -> None:
        """Have the sender know, before anything is sent, what the site's database may not know yet."""
        opted_out = await self._ledger.opted_out(self._account)
        after, some = 0, await self._ledger.waiting_pushes(self._account, 0, AT_ONCE)
        self._opt_outs.restore(opted_out, ())
        while some:
            self._opt_outs.restore((), some)
            self.waiting += len(some)
            after = some[-1].no
            some = await self._ledger.waiting_pushes(self._account, after, AT_ONCE)
        self._wake.set()

    def wake(self) -> None:
        """There is one more."""
        self.waiting += 1
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        tries = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                trouble = await self._pass()
            except LedgerUnavailableError as error:
                trouble = str(error)
            if not trouble:
                if tries:
                    log.info("pushes_applied_again", account=self._account)
                tries, self.trouble = 0, ""
                continue
            tries += 1
            delay_s = retry.DATABASE.delay_s(tries)
            self.trouble = trouble
            log.warning(
                "pushes_not_applied", account=self._account, error=trouble, retry_in_s=round(delay_s, 1)
            )
            await self._clock.sleep(delay_s)
            self._wake.set()

    async def _pass(self) -> str:
        """All that wait, once; why some still do."""
        after, failed, trouble = 0, set[str](), ""
        while some := await self._ledger.waiting_pushes(self._account, after, AT_ONCE):
            after = some[-1].no
            done: list[WaitingPush] = []
            for one in some:
                if one.openid in failed:
                    continue  # this follower's later pushes wait for the first
                try:
                    await self._registry.note(one.kind, one.openid)
                except AudienceUnavailableError as error:
                    trouble = str(error)
                    failed.add(one.openid)
                    if len(failed) >= MOST_FAILED:
                        break
                else:
                    done.append(one)
            await self._note(done)
            if len(failed) >= MOST_FAILED:
                break
        return trouble

    async def _note(self, done: list[WaitingPush]) -> None:
        if not done:
            return
        await self._ledger.note_applied([one.no for one in done], self._clock.now())
        for one in done:
            self._opt_outs.told(one.kind, one.openid)
        self.applied += len(done)
        self.waiting = max(0, self.waiting - len(done))
