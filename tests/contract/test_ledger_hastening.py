"""`Ledger.hasten` and `Ledger.warn`, over all implementations."""

from datetime import timedelta

import pytest
from bed.fakes import FakeClock, new_job
from bed.ledgers import LEDGER_PARAMS, LEDGERS

from broadcastd.batch import Batch, DeferralRow, SliceMark
from broadcastd.ledgers.hastening import SLICES_AT_ONCE
from broadcastd.model import Deferral

HOUR_S = 3600


@pytest.fixture(params=LEDGER_PARAMS)
async def home(request, tmp_path):
    home = LEDGERS[request.param](request)(tmp_path, FakeClock())
    await home.open()
    yield home
    await home.kill()


class Bench:
    def __init__(self, home):
        self.ledger, self.clock = home.ledger, home.clock
        self.jobs = 0

    @property
    def now(self):
        return self.clock.now()

    async def job(self, *slices):
        self.jobs += 1
        accepted = await self.ledger.accept(new_job(self.now, id=f"j{self.jobs}"), timedelta(0))
        await self.ledger.add_slices(accepted.job.no, slices, planned=True)
        return accepted.job.no

    async def lease(self, no, share=1):
        return await self.ledger.lease({no: share}, self.now, self.now + timedelta(hours=9))

    async def put_off(self, lease, *ids, channel_no=0, in_s=HOUR_S):
        due_at = self.now + timedelta(seconds=in_s)
        rows = [DeferralRow(lease.job_no, lease.slice_no, Deferral(one, due_at, channel_no)) for one in ids]
        await self.ledger.record(Batch([SliceMark(lease, lease.ids[-1])], [], rows), self.now)

    async def waiting(self, no, *ids, **about):
        """A job of one slice whose recipients are all put off."""
        (lease,) = await self.lease(no)
        await self.put_off(lease, *ids, **about)
        await self.ledger.settle(lease, self.now)

    async def hasten(self, no, channel_no=0):
        after = 0
        while (last := await self.ledger.hasten(no, channel_no, self.now, after)) is not None:
            assert last > after
            after = last


@pytest.fixture
def bench(home):
    return Bench(home)


async def test_who_was_put_off_is_due_at_once(bench):
    no = await bench.job([1, 2, 3])
    await bench.waiting(no, 1, 2, 3)
    assert await bench.ledger.open_slices(bench.now) == {}
    await bench.hasten(no)
    assert await bench.ledger.open_slices(bench.now) == {no: 1}
    (lease,) = await bench.lease(no)
    assert [(one.recipient_id, one.due_at) for one in lease.deferrals] == [
        (one, bench.now) for one in (1, 2, 3)
    ]


async def test_other_channels_and_other_jobs_stay_put_off(bench):
    no, other = await bench.job([1, 2]), await bench.job([1, 2])
    await bench.waiting(no, 1, 2, channel_no=1)
    await bench.waiting(other, 1, 2)
    await bench.hasten(no)
    assert await bench.ledger.open_slices(bench.now) == {}
    assert await bench.ledger.next_due_at() == bench.now + timedelta(seconds=HOUR_S)


async def test_a_slice_that_is_leased_is_due_when_it_is_settled(bench):
    no = await bench.job([1, 2])
    (lease,) = await bench.lease(no)
    await bench.put_off(lease, 1, 2)
    await bench.hasten(no)
    assert await bench.ledger.open_slices(bench.now) == {}
    settled = await bench.ledger.settle(lease, bench.now)
    assert (settled.done, settled.due_at) == (False, bench.now)


async def test_who_is_due_already_stays_so(bench):
    no = await bench.job([1])
    await bench.waiting(no, 1, in_s=0)
    bench.clock.advance(5)
    await bench.hasten(no)
    (lease,) = await bench.lease(no)
    assert lease.deferrals[0].due_at == bench.now - timedelta(seconds=5)


async def test_a_job_of_many_slices_is_hastened_in_several_commits(bench):
    slices = SLICES_AT_ONCE * 2 + 1
    no = await bench.job(*([one] for one in range(1, slices + 1)))
    for lease in await bench.lease(no, slices):
        await bench.put_off(lease, *lease.ids)
        await bench.ledger.settle(lease, bench.now)
    first = await bench.ledger.hasten(no, 0, bench.now)
    assert await bench.ledger.open_slices(bench.now) == {no: SLICES_AT_ONCE}
    assert first == SLICES_AT_ONCE
    await bench.hasten(no)
    assert await bench.ledger.open_slices(bench.now) == {no: slices}


async def test_a_job_without_slices_has_nothing_to_hasten(bench):
    assert await bench.ledger.hasten(await bench.job(), 0, bench.now) is None


async def test_warnings_are_kept_and_replaced(bench):
    no = await bench.job([1])

    async def warnings():
        return (await bench.ledger.job("j1")).warnings

    assert await warnings() == ()
    await bench.ledger.warn(no, ["quota of custom: 1 too few", "求購"])
    assert await warnings() == ("quota of custom: 1 too few", "求購")
    await bench.ledger.warn(no, [])
    assert await warnings() == ()
