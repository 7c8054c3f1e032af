"""How slices are dealt out: while an audience is still being read, its tasks come in one after the other."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from bed.fakes import FakeClock, ScriptedChannel, open_job, settle_down

from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.dispatcher import BESIDE_READING_S, LEASED_AT_ONCE, Dispatcher, Work
from broadcastd.model import Lease

TASKS = 3 * LEASED_AT_ONCE


class Disk:
    """Stands for `Ledger`: one job with plenty of slices."""

    def __init__(self, no: int) -> None:
        self.no = no
        self.leased = 0

    async def open_slices(self, now: datetime) -> Mapping[int, int]:
        del now
        return {self.no: 1000}

    async def lease(self, shares: Mapping[int, int], now: datetime, until: datetime) -> Sequence[Lease]:
        del now, until
        first = self.leased
        self.leased += shares[self.no]
        return [Lease(self.no, no, no, (no,), (no,)) for no in range(first, self.leased)]


class Jobs:
    """Stands for `OpenJobs`: one job."""

    def __init__(self, job: OpenJob) -> None:
        self._job = job
        self._listeners: list[Callable[[OpenJob], None]] = []

    def get(self, no: int) -> OpenJob | None:
        return self._job if no == self._job.no else None

    def listen(self, listener: Callable[[OpenJob], None]) -> None:
        self._listeners.append(listener)

    def at_end(self, listener: Callable[[OpenJob], None]) -> None:
        """It does not end."""

    def join(self) -> None:
        for listener in self._listeners:
            listener(self._job)


@pytest.mark.parametrize(("being_read", "pauses"), [(True, 2), (False, 0)])
async def test_tasks_come_in_slowly_only_while_the_audience_is_read(being_read: bool, pauses: int) -> None:
    clock = FakeClock()
    job = open_job(clock, ScriptedChannel("custom"))
    job.being_read = being_read
    jobs: Any = Jobs(job)
    disk: Any = Disk(job.no)
    dispatcher = Dispatcher(disk, jobs, clock, 60.0, asyncio.Event())
    jobs.join()
    tasks: list[asyncio.Task[Work]] = [asyncio.create_task(dispatcher.next_work()) for _ in range(TASKS)]
    await settle_down()
    running = asyncio.create_task(dispatcher.run())
    try:
        async with asyncio.timeout(10):
            works = await asyncio.gather(*tasks)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert sorted(work.lease.slice_no for work in works) == list(range(TASKS))
    assert clock.slept == [BESIDE_READING_S] * pauses
