"""An account's hold over a real ledger, with a clock that only the test moves."""

from datetime import timedelta

import pytest
from bed.fakes import FakeClock, ScriptedChannel, Told, new_job, open_job
from bed.ledgers import SqliteHome

from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.model import HoldKind
from broadcastd.states import JobState

WHY = "40164 not on the whitelist"


class Stops:
    """Stands for the dispatcher: notes which jobs are stopped."""

    def __init__(self):
        self.jobs = []

    def stop_job(self, entry):
        self.jobs.append(entry.no)


class Scene:
    """Two open jobs of one account."""

    def __init__(self, home):
        self.home, self.clock, self.ledger = home, home.clock, home.ledger
        self.start()

    def start(self):
        self.told = Told()
        channels = ScriptedChannel("custom"), ScriptedChannel("template")
        self.account = open_job(self.clock, *channels).account
        self.jobs = OpenJobs(self.ledger, {"default": self.account}, self.clock, self.told)
        self.stops = Stops()
        self.holds = AccountHolds(self.ledger, self.jobs, self.stops, self.clock, self.told)

    async def accept(self, id):
        job = (await self.ledger.accept(new_job(self.clock.now(), id=id, key=id), timedelta(0))).job
        await self.ledger.add_slices(job.no, [[1, 2]], planned=True)
        self.jobs.add(await self.ledger.job(id))
        return job

    async def states(self):
        return [job.state for job in await self.ledger.jobs(9, only_open=True)]


@pytest.fixture
async def scene(tmp_path):
    home = SqliteHome(tmp_path, FakeClock())
    await home.open()
    scene = Scene(home)
    for id in ("j1", "j2"):
        await scene.accept(id)
    yield scene
    await home.kill()


async def test_all_jobs_are_held_on_disk_and_tried_again_in_time_with_one_call(scene):
    await scene.holds.hold(scene.account, WHY, 600)
    assert len(set(scene.stops.jobs)) == 2
    for job in await scene.ledger.jobs(9, only_open=True):
        assert (job.state, job.hold.kind) == (JobState.HELD, HoldKind.ACCOUNT)
        assert job.hold.until == scene.clock.now() + timedelta(seconds=600)
        assert job.reason == f"account default: {WHY}"
    scene.clock.advance(599)
    await scene.holds._look()
    assert await scene.states() == [JobState.HELD] * 2
    assert not scene.account.gate.enter()
    scene.clock.advance(1)
    await scene.holds._look()
    assert await scene.states() == [JobState.RUNNING] * 2
    assert scene.account.gate.enter()
    assert not scene.account.gate.enter(), "one call at a time"


async def test_an_operator_is_told_of_the_account_and_not_of_each_job(scene):
    await scene.holds.hold(scene.account, WHY, 600)
    (notice,) = scene.told.notices
    assert (notice.kind, notice.about, notice.facts["reason"]) == ("account_held", "default", WHY)
    scene.clock.advance(600)
    await scene.holds._look()
    await scene.holds._look()
    assert len(scene.told.notices) == 1, "let go, and not tried yet"
    scene.account.gate.passed()
    await scene.holds._look()
    await scene.holds._look()
    assert scene.told.kinds == ["account_held default", "account_held default over"]


async def test_a_new_job_of_a_held_account_is_held_too(scene):
    await scene.holds.hold(scene.account, WHY, 600)
    await scene.accept("j3")
    await scene.holds._look()
    assert await scene.states() == [JobState.HELD] * 3


async def test_a_start_finds_the_account_held(scene):
    await scene.holds.hold(scene.account, WHY, 600)
    scene.start()
    await scene.jobs.restore()
    scene.holds.restore()
    assert scene.account.is_held(scene.clock.now())
    assert scene.account.held_for == WHY
    assert set(scene.told.kinds) == {"account_held default known"}
    assert not scene.account.gate.enter()
    scene.clock.advance(600)
    await scene.holds._look()
    assert await scene.states() == [JobState.RUNNING] * 2


async def test_every_try_begins_a_count_of_its_own(scene):
    await scene.holds.hold(scene.account, WHY, 600)
    for openid in ("o1", "o2", "o3"):
        scene.account.streaks.is_too_long(50002, openid)
    assert scene.account.streaks.is_too_long(50002, "o4")
    await scene.holds.let_go(scene.account, WHY)
    assert scene.account.tried_again == 1
    assert not scene.account.streaks.is_too_long(50002, "o5")
