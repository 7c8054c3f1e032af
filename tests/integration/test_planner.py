"""The planner over a real ledger: a round that begins while the one before is still being read."""

import asyncio
import contextlib
from datetime import timedelta
from zoneinfo import ZoneInfo

from bed.fakes import FakeClock, FakeTokens, ScriptedChannel, Told, new_job, settle_down
from bed.ledgers import SqliteHome

from broadcastd.delivery.accounts import Account
from broadcastd.delivery.gate import Gate
from broadcastd.delivery.lane import Lane
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.pace import Pace
from broadcastd.delivery.planner import Planner
from broadcastd.model import OnUnknown
from broadcastd.outcomes import Outcome
from broadcastd.settings import PoolSettings
from broadcastd.states import JobState


class StuckAudience:
    """Yields four ids, and then hangs, as a database may, until it is let go on."""

    def __init__(self):
        self.goes_on = asyncio.Event()

    @contextlib.asynccontextmanager
    async def ids(self, now, after):
        async def blocks():
            yield [1, 2, 3, 4]
            await self.goes_on.wait()
            yield [5, 6]

        yield blocks()


async def _once(look):
    async with asyncio.timeout(20):
        while True:
            found = await look()
            if found:
                return found
            await settle_down()


async def test_a_retry_is_planned_although_the_cancelled_round_is_still_being_read(tmp_path):
    clock = FakeClock()
    home = SqliteHome(tmp_path, clock)
    await home.open()
    ledger, audience = home.ledger, StuckAudience()
    channel = ScriptedChannel("custom")
    channels = {"custom": channel, "template": ScriptedChannel("template")}
    lanes = {name: Lane("default", name, clock, 60) for name in channels}
    pace = Pace(60, 16, 12_000, 8)
    account = Account("default", channels, audience, FakeTokens(), Gate(clock), lanes, pace,
                      ZoneInfo("Asia/Shanghai"), 0.2, OnUnknown.RESEND)  # fmt: skip
    jobs = OpenJobs(ledger, {"default": account}, clock, Told())
    planner = Planner(ledger, jobs, PoolSettings(tasks=1, slice_size=2), clock, asyncio.Event())
    running = asyncio.create_task(planner.run())
    try:
        job = (await ledger.accept(new_job(clock.now()), timedelta(0))).job
        jobs.add(job)

        async def some_are_frozen():
            return (await ledger.job(job.id)).books.recipients == 4

        await _once(some_are_frozen)
        await ledger.move(job.no, JobState.CANCELLING)
        jobs.changed(await ledger.job(job.id))
        while await ledger.close_slices(job.no, 10, clock.now()):
            pass
        jobs.leave(await ledger.finish(job.no, clock.now()))
        assert await ledger.retry(job.no, 2, [Outcome.SKIPPED], clock.now(), None)
        jobs.add(await ledger.job(job.id))
        await settle_down()  # the planner is told of the new round while it still reads the former one
        audience.goes_on.set()

        async def is_planned():
            found = await ledger.job(job.id)
            return found.books.planned and found

        planned = await _once(is_planned)
        assert (planned.round.no, planned.round.recipients, planned.books.recipients) == (2, 4, 4)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await home.kill()
