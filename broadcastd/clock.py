"""Time, handed in: nothing in `delivery/` reads a clock of its own."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the daemon knows of time."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC: for what is stored and shown."""
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

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(delay_s)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, the ledger's unit of time."""
    return round(moment.timestamp() * 1000)


def from_ms(moment_ms: int) -> datetime:
    """The aware UTC datetime of `to_ms`."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC)
