"""The heartbeat tells a ledger that says nothing from one that says why it cannot be written."""

import asyncio
from datetime import datetime

import pytest
from bed.fakes import FakeClock

from broadcastd.delivery.heartbeat import Heartbeat
from broadcastd.errors import LedgerSilentError, LedgerUnavailableError
from broadcastd.notices import Unheard


class Ledger:
    """Its `alive` only: one at a time, as the file that notes a beat demands."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.under_way = 0

    async def alive(self, now: datetime) -> None:
        del now
        self.under_way += 1
        assert self.under_way == 1
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "silent_s"),
    [(None, 0), (LedgerUnavailableError("the disk is full"), 0), (LedgerSilentError(), 70)],
)
async def test_how_long_it_has_said_nothing(error: Exception | None, silent_s: float) -> None:
    clock, ledger = FakeClock(), Ledger()
    heartbeat = Heartbeat(ledger, None, clock, Unheard())  # type: ignore[arg-type]
    clock.advance(70)
    assert heartbeat.silent_s == 70
    ledger.error = error
    if error is None:
        await heartbeat.beat()
    else:
        with pytest.raises(type(error)):
            await heartbeat.beat()
    assert heartbeat.silent_s == silent_s


async def test_one_beat_at_a_time_whoever_asks() -> None:
    heartbeat = Heartbeat(Ledger(), None, FakeClock(), Unheard())  # type: ignore[arg-type]
    await asyncio.gather(*(heartbeat.beat() for _ in range(10)))
