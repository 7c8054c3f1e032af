"""A commit that comes after its caller was told "not durable": the job is on disk, and it is sent."""

import sqlite3
from contextlib import closing, contextmanager

import pytest
from bed.fakes import FakeClock, ScriptedChannel, Told, open_job
from bed.ledgers import SqliteHome
from bed.ports import free_port

from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.closer import Closer
from broadcastd.delivery.controls import Controls
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers import sql
from broadcastd.model import Request
from broadcastd.outcomes import Outcome
from broadcastd.ports import Accepted
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.settings import Settings
from broadcastd.states import JobState

POST = Request(content="a post", key="k", channels=("custom",))


class NoDispatcher:
    def stop_job(self, entry):
        pass


class NoForecaster:
    def at_once(self, asked, channels, begins):
        return None


@pytest.fixture
async def home(tmp_path):
    home = SqliteHome(tmp_path, FakeClock())
    await home.open()
    yield home
    await home.kill()


def controls_of(home, jobs):
    dispatcher = NoDispatcher()
    holds = AccountHolds(home.ledger, jobs, dispatcher, home.clock, Told())
    return Controls(home.ledger, jobs, dispatcher, Closer(home.ledger, jobs, home.clock), holds, home.clock)


@pytest.fixture
def jobs(home):
    account = open_job(home.clock, ScriptedChannel("custom")).account
    return OpenJobs(home.ledger, {"default": account}, home.clock, Told())


@pytest.fixture
def intake(home, jobs):
    settings = Settings.model_validate(
        {
            "server": {"port": free_port()},
            "ledger": {"reserve_mb": 0},
            "accounts": {"default": {"audience": {"url": "sqlite:///s.db"}, "channels": ["custom"]}},
        }
    )
    forecasters = {"default": NoForecaster()}
    return Intake(home.ledger, jobs._accounts, jobs, forecasters, settings, home.clock)


@pytest.fixture
def locked(home, monkeypatch):
    """A context in which no commit comes through, and nobody has patience."""

    @contextmanager
    def while_locked():
        with (
            closing(sqlite3.connect(home.path, isolation_level=None)) as intruder,
            monkeypatch.context() as now,
        ):
            now.setattr(sql, "PATIENCE_S", 0.05)
            intruder.execute("BEGIN IMMEDIATE")
            yield

    return while_locked


async def test_a_job_that_was_answered_too_early_is_taken_in_when_it_is_sent_again(
    home, jobs, intake, locked
):
    with locked():
        refused = await intake.submit(POST)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.code.retry) == (ErrorCode.NOT_DURABLE, True)
    assert len(jobs) == 0
    again = await intake.submit(POST)
    assert isinstance(again, Accepted)
    assert again.repeat, "it was on disk"
    assert jobs.get(again.job.no) is not None
    assert len(await home.ledger.jobs(9)) == 1


async def test_a_retry_that_was_answered_too_early_is_taken_in_when_it_comes_again(
    home, jobs, intake, locked
):
    job = (await intake.submit(POST)).job
    await home.ledger.add_slices(job.no, [[1]], planned=True)
    await home.ledger.move(job.no, JobState.CANCELLING)
    await home.ledger.close_slices(job.no, 9, home.clock.now())
    jobs.leave(await home.ledger.finish(job.no, home.clock.now()))
    controls = controls_of(home, jobs)
    with locked(), pytest.raises(LedgerUnavailableError):
        await controls.retry(job, [Outcome.SKIPPED], 2, None)
    assert jobs.get(job.no) is None
    again = await controls.retry(job, [Outcome.SKIPPED], 2, None)
    assert (again.state, again.round.no) == (JobState.RUNNING, 2)
    assert jobs.get(job.no) is not None


async def test_a_pause_that_was_answered_too_early_holds_in_memory_when_it_is_asked_for_again(
    home, jobs, intake, locked
):
    job = (await intake.submit(POST)).job
    controls = controls_of(home, jobs)
    with locked(), pytest.raises(LedgerUnavailableError):
        await controls.pause(job)
    assert jobs.get(job.no).state is JobState.ACCEPTED
    assert (await controls.pause(job)).state is JobState.PAUSED
    assert not jobs.get(job.no).going
