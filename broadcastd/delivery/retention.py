"""Forgets who got jobs that ended long ago, and followers of whom nothing was heard for as long.

A few rows at a time, so that running jobs do not notice.
"""

from datetime import timedelta

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.window import LONGEST_TRUST
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ports import Ledger

log = structlog.get_logger()

EVERY_S = 3600.0
ROWS_AT_ONCE = 2000
"""Some 10 ms of the ledger's writer."""
FOLLOWERS_AT_ONCE = 5000
"""The same: most are only looked at."""
PAUSE_S = 0.5


class Retention:
    """`run` must be running."""

    def __init__(self, ledger: Ledger, keep: timedelta, clock: Clock) -> None:
        self._ledger = ledger
        self._keep = keep
        self._clock = clock

    def change(self, keep: timedelta) -> None:
        """Another time, from the next look on."""
        self._keep = keep

    async def run(self) -> None:
        """Look once an hour."""
        while True:
            try:
                await self._purge()
                await self._forget_followers()
            except LedgerUnavailableError as error:
                log.warning("purge_put_off", error=str(error))
            await self._clock.sleep(EVERY_S)

    async def _purge(self) -> None:
        gone = 0
        while rows := await self._ledger.purge(self._clock.now(), self._keep, ROWS_AT_ONCE):
            gone += rows
            await self._clock.sleep(PAUSE_S)
        if gone:
            log.info("ledger_purged", rows=gone)

    async def _forget_followers(self) -> None:
        keep = max(self._keep, LONGEST_TRUST)
        gone, after = await self._ledger.forget_followers(self._clock.now(), keep, None, FOLLOWERS_AT_ONCE)
        while after is not None:
            await self._clock.sleep(PAUSE_S)
            now = self._clock.now()
            more, after = await self._ledger.forget_followers(now, keep, after, FOLLOWERS_AT_ONCE)
            gone += more
        if gone:
            log.info("followers_forgotten", rows=gone)
