"""Time, handed in: nothing in `delivery/` reads a clock of its own."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime.fromtimestamp(0, UTC)


class Clock(Protocol):
    """What the daemon knows of time."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC: for what is stored and shown."""
        ...

    def now_ms(self) -> int:
        """As `now`, in milliseconds since 1970: for what is noted of every recipient."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never jump: for pauses, rates and latencies."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """See `Clock`."""
        return datetime.now(UTC)

    def now_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)  # twice for every message

    async def sleep(self, delay_s: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(delay_s)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, the ledger's unit of time."""
    # In whole numbers: a float of the year 2243 is off by microseconds.
    return ((moment - EPOCH) // timedelta(microseconds=1) + 500) // 1000


def from_ms(moment_ms: int) -> datetime:
    """The aware UTC datetime of `to_ms`."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC)
