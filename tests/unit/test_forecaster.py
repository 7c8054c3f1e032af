"""When forecasts are made, and what becomes of them. The ledger is told what to say."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from bed.fakes import FakeClock, ScriptedChannel, Told, open_job, settle_down
from bed.quota_sources import SHANGHAI, ScriptedQuotas

from broadcastd.delivery.forecaster import Forecaster
from broadcastd.delivery.quota_watch import Watching
from broadcastd.delivery.quotas import AccountQuotas
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Books, Request, Round
from broadcastd.outcomes import Answer
from broadcastd.settings import QuotaSettings

EVERYBODY = Request("a post")


class Ledger:
    """Jobs, and the warnings that were written of them."""

    def __init__(self):
        self.all, self.warned, self.failures, self.looks, self.most_listed = [], [], 0, 0, 1000

    async def jobs(self, limit, *, only_open=False):
        self.looks += only_open
        if only_open and self.failures:
            self.failures -= 1
            raise LedgerUnavailableError("no disk")
        return [job for job in self.all if not (only_open and job.state.is_terminal)][: self.most_listed]

    async def job(self, job_id):
        return next((job for job in self.all if job.id == job_id), None)

    async def warn(self, job_no, warnings):
        self.warned.append((job_no, tuple(warnings)))


class OpenOnes(list):
    def count(self, counter):
        self.counter = counter

    def at_end(self, listener):
        self.ended = listener


class Scene:
    def __init__(self, left=1000, **settings):
        self.clock, self.ledger, self.jobs, self.told = FakeClock(), Ledger(), OpenOnes(), Told()
        self.entry = open_job(self.clock, ScriptedChannel("custom"))
        self.entry.job = self.job(1)
        self.source = ScriptedQuotas(left)
        quotas = AccountQuotas(self.entry.account, self.source, self.clock)
        self.forecaster = Forecaster(
            quotas,
            QuotaSettings(**settings),
            SHANGHAI,
            Watching(self.ledger, self.jobs, None, self.clock, self.told),
        )

    def job(self, no, recipients=600, **about):
        books, one = Books(recipients, True), Round(recipients=recipients)
        template = open_job(FakeClock(), ScriptedChannel("custom")).job
        channels = ("custom",)
        return replace(template, no=no, id=f"j{no}", books=books, round=one, channels=channels, **about)

    def another(self, no):
        return replace(self.entry, job=self.job(no))

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.forecaster.run())
        await settle_down()
        yield
        task.cancel()

    async def plan(self, *jobs):
        self.ledger.all = list(jobs)
        self.jobs.counter(self.entry, self.entry.job.round.recipients)
        await settle_down(50)


def fits(scene, request=EVERYBODY):
    found = scene.forecaster.at_once(request, ("custom",), scene.clock.now())
    return found.needs[0].needed, found.fits


async def test_at_the_start_the_figures_and_the_last_whole_audience_are_learned():
    scene = Scene(left=500)
    scene.ledger.all = [
        scene.job(4, 3, to=("o1",)), scene.job(3, 500, flag=2), scene.job(2, 700, account="other"),
        scene.job(1, 600),
    ]  # fmt: skip
    assert fits(scene) == (None, None)
    async with scene.running():
        assert fits(scene) == (600, False)
        assert fits(scene, Request("a post", flag=0)) == (500, True)
        assert fits(scene, Request("a post", to=("o1", "o2"))) == (2, True)
    assert len(scene.source.asked) == 1


async def test_a_planned_job_is_warned_of_exactly():
    scene = Scene(left=599)
    async with scene.running():
        await scene.plan(scene.job(1, warnings=("thing1 is cut",)))
        ((no, warnings),) = scene.ledger.warned
        assert (no, warnings[0]) == (1, "thing1 is cut")
        assert warnings[1].startswith("quota of custom: 600 are needed, 599 of 1,000 calls are left today: 1")
        assert scene.told.kinds == ["quota_short j1"]
        scene.jobs.ended(scene.entry.job)
        scene.jobs.ended(scene.entry.job)
        assert scene.told.kinds[1:] == ["quota_short j1 over"]
        assert fits(scene) == (600, False)


async def test_a_warning_that_is_not_true_any_more_goes_away():
    scene = Scene(left=600)
    async with scene.running():
        await scene.plan(scene.job(1, warnings=("quota of custom: 9 too few", "thing1 is cut")))
        assert scene.ledger.warned == [(1, ("thing1 is cut",))]


async def test_jobs_before_it_count_and_jobs_after_it_do_not():
    scene = Scene(left=1000)
    scene.entry.job = scene.job(2)
    async with scene.running():
        await scene.plan(scene.job(1, 401), scene.job(2), scene.job(3), scene.job(0, 900, account="other"))
        ((no, (warning,)),) = scene.ledger.warned
        assert no == 2
        assert "600 are needed after up to 401 for jobs before it, 1,000 of 1,000 calls" in warning


async def test_a_ledger_that_is_away_is_waited_for():
    scene = Scene(left=0)
    scene.ledger.failures = 3
    async with scene.running():
        await scene.plan(scene.job(1))
        assert len(scene.ledger.warned) == 1
        assert scene.ledger.looks == 4


async def test_jobs_that_are_planned_at_once_are_looked_at_together():
    scene = Scene(left=1000)
    entries = [scene.another(no) for no in (1, 2, 3)]
    scene.ledger.all = [entry.job for entry in entries]
    async with scene.running():
        for entry in entries:
            scene.jobs.counter(entry, 600)
        await settle_down(50)
        assert scene.ledger.looks == 1
        assert [no for no, _ in scene.ledger.warned] == [2, 3]
        assert "after up to 1,200 for jobs before it" in scene.ledger.warned[1][1][0]


async def test_a_job_behind_more_than_are_looked_at_is_forecast_and_one_that_has_ended_is_not():
    scene = Scene(left=0)
    there, gone = scene.another(7), scene.another(8)
    scene.ledger.all = [there.job, gone.job]
    scene.ledger.most_listed = 0
    scene.jobs.get = {7: there}.get
    async with scene.running():
        for entry in (there, gone):
            scene.jobs.counter(entry, 600)
        await settle_down(50)
        assert [no for no, _ in scene.ledger.warned] == [7]


async def test_without_figures_nothing_is_claimed():
    scene = Scene()
    scene.source.answers = [Answer(48001)] * 3
    async with scene.running():
        await scene.plan(scene.job(1))
        assert scene.ledger.warned == []
        assert fits(scene) == (600, None)


@pytest.mark.parametrize("about", [{"to": ("o1",)}, {"flag": 3}])
async def test_only_a_whole_audience_is_taken_for_one(about):
    scene = Scene()
    scene.entry.job = scene.job(1, **about)
    async with scene.running():
        await scene.plan(scene.entry.job)
        assert fits(scene)[0] is None


async def test_where_nobody_wants_forecasts_wechat_is_not_asked():
    scene = Scene(left=0, forecast=False)
    await scene.forecaster.run()
    assert scene.forecaster.at_once(EVERYBODY, ("custom",), scene.clock.now()) is None
    assert scene.source.asked == []
    # A dry run is somebody's own question.
    assert (await scene.forecaster.for_dry_run(("custom",), 600, scene.clock.now())).fits is False
