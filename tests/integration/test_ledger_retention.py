"""Years of jobs in one file: it grows to a size and stays there."""

import asyncio
from datetime import timedelta
from pathlib import Path

from bed.fakes import FakeClock, new_job
from bed.ledgers import SqliteHome

from broadcastd.batch import Batch, Learned, OutcomeRow, SliceMark
from broadcastd.delivery.retention import EVERY_S, FOLLOWERS_AT_ONCE, Retention
from broadcastd.errcodes import Note
from broadcastd.outcomes import Outcome

RECIPIENTS = 20_000
KEEP = timedelta(days=30)


async def one_job(home: SqliteHome, number: int) -> None:
    clock, ledger = home.clock, home.ledger
    job = (await ledger.accept(new_job(clock.now(), id=f"j{number}", key=f"k{number}"), timedelta(0))).job
    ids = range(1, RECIPIENTS + 1)
    cut = [ids[at : at + 500] for at in range(0, RECIPIENTS, 500)]
    await ledger.add_slices(job.no, cut, planned=True)
    now = clock.now()
    for lease in await ledger.lease({job.no: len(cut)}, now, now + timedelta(seconds=60)):
        rows = [OutcomeRow(job.no, one, f"o{one:027}", Outcome.SENT, "custom", 0, now) for one in lease.ids]
        await ledger.record(Batch([SliceMark(lease, lease.ids[-1])], rows), now)
        await ledger.settle(lease, now)
    assert await ledger.finish(job.no, now) is not None


def size_of(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.glob("ledger.db*"))


async def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path, FakeClock())
    await home.open()
    sizes = []
    for number in range(8):
        await one_job(home, number)
        home.clock.advance(16 * 86400)
        while await home.ledger.purge(home.clock.now(), KEEP, 2000):
            pass
        sizes.append(size_of(tmp_path))
    kept = home.rows("SELECT count(DISTINCT job_no), count(*) FROM outcomes")
    totals = home.rows("SELECT count(*), sum(recipients) FROM jobs")
    await home.kill()
    assert kept == [(1, RECIPIENTS)], "the last one: the one before it ended 32 days ago"
    assert totals == [(8, 8 * RECIPIENTS)]
    # Two jobs' recipients are kept at a time; six more have come and gone since.
    assert sizes[-1] < 1.2 * max(sizes[:3]), sizes


class HourlyClock(FakeClock):
    """`looked` is set once the loop has looked at everything."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = asyncio.Event()

    async def sleep(self, delay_s: float) -> None:
        if delay_s == EVERY_S:
            self.looked.set()
        await super().sleep(delay_s)


async def test_followers_of_whom_nothing_was_heard_are_forgotten_by_the_loop(tmp_path: Path) -> None:
    clock = HourlyClock()
    home = SqliteHome(tmp_path, clock)
    await home.open()
    now = home.clock.now()
    # However short jobs are kept: what is believed for 7 days is kept for 7.
    for days, many in ((7, FOLLOWERS_AT_ONCE + 10), (6, 3)):
        at = now - timedelta(days=days)
        learned = [Learned("default", f"o{days}-{one:09}", Note.GONE, 43004, at) for one in range(many)]
        await home.ledger.record(Batch(learned=learned), at)
    loop = asyncio.create_task(Retention(home.ledger, timedelta(days=1), home.clock).run())
    await asyncio.wait_for(clock.looked.wait(), 60)
    loop.cancel()
    await asyncio.wait([loop])
    left = home.rows("SELECT count(*) FROM followers")
    await home.kill()
    assert left == [(3,)]
