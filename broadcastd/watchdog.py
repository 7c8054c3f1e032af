"""Feeds systemd's watchdog, and only while there is progress: else systemd starts the daemon anew."""

from collections.abc import Callable

import structlog

from broadcastd.clock import Clock
from broadcastd.notify import Notifier

log = structlog.get_logger()

FEEDS_A_SPAN = 3
"""One or two may come late."""


class Watchdog:
    """`run` must be running in the loop that it speaks for: when that hangs, nobody feeds."""

    def __init__(self, notifier: Notifier, progressing: Callable[[], str], clock: Clock) -> None:
        """`progressing`: why there is no progress; empty while there is."""
        self._notifier = notifier
        self._progressing = progressing
        self._clock = clock

    async def run(self) -> None:
        """Look and feed until cancelled; returns at once when nobody watches."""
        watchdog_s = self._notifier.watchdog_s
        stuck = ""
        while watchdog_s is not None:
            why = self._progressing()
            if not why:
                self._notifier.alive()
            elif why != stuck:
                log.critical("watchdog_not_fed", why=why)
                self._notifier.status(f"stuck: {why}")
            stuck = why
            await self._clock.sleep(watchdog_s / FEEDS_A_SPAN)
