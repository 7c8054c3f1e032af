"""What an operator is told of jobs and of the ledger, by the parts that notice it, over a real ledger."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from bed.fakes import FakeClock, ScriptedChannel, Told, new_job, open_job
from bed.ledgers import SqliteHome

from broadcastd.delivery.heartbeat import Heartbeat
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Hold, HoldKind
from broadcastd.states import JobState


class Scene:
    """One open job, and whoever is told."""

    def __init__(self, home):
        self.home, self.ledger, self.clock = home, home.ledger, home.clock
        self.start()

    def start(self):
        account = open_job(self.clock, ScriptedChannel("custom"), ScriptedChannel("template")).account
        self.told = Told()
        self.jobs = OpenJobs(self.ledger, {"default": account}, self.clock, self.told)

    async def accept(self, id="j1", **about):
        job = (await self.ledger.accept(new_job(self.clock.now(), id=id, **about), timedelta(0))).job
        self.jobs.add(job)
        return self.jobs.get(job.no)

    async def present(self, entry):
        return await self.ledger.job(entry.job.id)


@pytest.fixture
async def scene(tmp_path):
    home = SqliteHome(tmp_path, FakeClock())
    await home.open()
    yield Scene(home)
    await home.kill()


async def test_a_job_that_is_held_and_goes_on(scene):
    entry = await scene.accept(key="order-17")
    await scene.jobs.hold(entry, "the audience query yields nobody")
    (notice,) = scene.told.notices
    assert dict(notice.facts) == {
        "account": "default", "reason": "the audience query yields nobody", "key": "order-17",
    }  # fmt: skip
    scene.jobs.changed(await scene.present(entry))
    await scene.ledger.resume(entry.no)
    scene.jobs.changed(await scene.present(entry))
    scene.jobs.changed(await scene.present(entry))
    assert scene.told.kinds == ["job_held j1", "job_held j1 over"]


async def test_a_held_job_that_is_cancelled_is_no_longer_held_and_has_ended(scene):
    entry = await scene.accept()
    await scene.jobs.hold(entry, "why")
    await scene.ledger.move(entry.no, JobState.CANCELLING)
    scene.jobs.changed(await scene.present(entry))
    await scene.jobs.finish(entry)
    assert scene.told.kinds == ["job_held j1", "job_held j1 over", "job_finished j1"]
    finished = scene.told.notices[-1]
    assert not finished.lasts
    assert finished.facts["state"] == "cancelled"


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        (HoldKind.TROUBLE, ["job_held j1 known"]),
        (HoldKind.DOWNTIME, ["job_held j1"]),
        (HoldKind.ACCOUNT, []),
        (HoldKind.COPY, []),
    ],
)
async def test_what_a_start_finds_held(scene, kind, kinds):
    entry = await scene.accept()
    await scene.ledger.move(entry.no, JobState.HELD, "why", Hold(kind))
    scene.start()
    await scene.jobs.restore()
    assert scene.told.kinds == kinds


async def test_who_listens_for_ends_hears_of_each(scene):
    heard = []
    scene.jobs.at_end(heard.append)
    entry = await scene.accept()
    await scene.ledger.add_slices(entry.no, [], planned=True, may_be_empty=True)
    await scene.jobs.ended(entry)
    assert [job.id for job in heard] == ["j1"]


class Ledger:
    """As far as the heartbeat asks it: in trouble as the test says."""

    def __init__(self):
        self.trouble, self.copied, self.beats = "", "", 0

    async def alive(self, now):
        self.beats += 1
        if self.trouble:
            raise LedgerUnavailableError(self.trouble)

    async def jobs(self, limit, *, only_open):
        return []


async def test_the_heartbeat_tells_of_a_ledger_that_cannot_be_written_and_of_a_copy():
    ledger, told, clock = Ledger(), Told(), FakeClock()
    jobs = OpenJobs(ledger, {}, clock, told)
    beating = asyncio.create_task(Heartbeat(ledger, jobs, clock, told).run())

    async def some_beats():
        until = ledger.beats + 3
        while ledger.beats < until:  # noqa: ASYNC110 - no time passes
            await asyncio.sleep(0)

    await some_beats()
    assert told.kinds == []
    ledger.trouble = "no space left"
    await some_beats()
    ledger.trouble = "no space left at all"
    await some_beats()
    assert told.kinds == ["ledger_unwritable"]
    assert told.notices[0].facts == {"reason": "no space left"}
    ledger.trouble = ""
    await some_beats()
    ledger.copied = "a copy"
    await some_beats()
    assert told.kinds[1:] == ["ledger_unwritable over", "ledger_copied"]
    ledger.copied = ""
    await some_beats()
    assert told.kinds[3:] == ["ledger_copied over"]
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
