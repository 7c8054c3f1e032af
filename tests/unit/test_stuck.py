"""Which jobs stand still: neither a false alarm, nor one that is missed."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from bed.fakes import T0, FakeClock, ScriptedChannel, ScriptedList, Told, open_job

from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.lane import HoldOf
from broadcastd.delivery.loop_lag import LoopLag
from broadcastd.delivery.stuck import Patience, Stuck, StuckJobs
from broadcastd.delivery.vitals import Vitals
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import WITH_ITS_CHUNK, Books, Job
from broadcastd.notices import Unheard
from broadcastd.states import JobState

AFTER_S, WAITING_S = 600.0, 3600.0


class Jobs:
    """Stands for `OpenJobs`."""

    def __init__(self, *entries: OpenJob) -> None:
        self.entries = list(entries)
        self.closing: dict[int, Job] = {}

    def __iter__(self) -> Iterator[OpenJob]:
        return iter(self.entries)


class Disk:
    """Stands for `Ledger`."""

    def __init__(self) -> None:
        self.trouble = ""
        self.planned = True
        self.due_at: datetime | None = None
        self.away = False

    async def job(self, job_id: str) -> Job:
        if self.away:
            raise LedgerUnavailableError
        job = open_job(FakeClock(), ScriptedChannel("custom")).job
        return dataclasses.replace(job, id=job_id, books=Books(planned=self.planned))

    async def next_due_at(self, job_no: int) -> datetime | None:
        del job_no
        return self.due_at


class Desk:
    """Stands for `Dispatcher`: how many slices of each job are with tasks."""

    def __init__(self) -> None:
        self.slices = 1
        self.has_idle_task = True
        self.silent_s = 0.0

    def at_work(self) -> Counter[int]:
        return Counter({no: self.slices for no in range(2000) if self.slices})


class Beat:
    """Stands for `Heartbeat`."""

    silent_s = 0.0
    trouble = ""


class Bench:
    """One job, looked at every half minute."""

    def __init__(self, longest_s: float = 70.0, channel: ScriptedChannel | None = None) -> None:
        self.clock = FakeClock()
        self.entry = open_job(self.clock, channel or ScriptedChannel("custom"))
        self.entry.job = dataclasses.replace(self.entry.job, channels=tuple(self.entry.account.channels))
        self.account = self.entry.account
        self.jobs, self.disk, self.desk = Jobs(self.entry), Disk(), Desk()
        patience = Patience(AFTER_S, WAITING_S, {"default": longest_s}, {"default": 600.0})
        self.stuck = StuckJobs(self.jobs, self.disk, self.desk, patience, self.clock)  # type: ignore[arg-type]

    async def pass_by(
        self, seconds: float, meanwhile: Callable[[], None] = lambda: None
    ) -> tuple[Stuck, ...]:
        """What is found at the end; `meanwhile` before each look."""
        for _ in range(round(seconds / 30)):
            self.clock.advance(30)
            meanwhile()
            await self.stuck.look()
        return self.stuck.found


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_job_that_nothing_is_known_to_keep_is_told_soon(bench: Bench) -> None:
    assert not await bench.pass_by(AFTER_S)
    (one,) = await bench.pass_by(60)
    assert one.since == T0 + timedelta(seconds=30)
    assert one.ours
    assert "1 tasks have slices of it" in one.why


async def test_a_job_whose_recipients_end_slowly_moves(bench: Bench) -> None:
    def one_more() -> None:
        if (bench.clock.monotonic_s() - 1000) % 540 == 0:
            bench.entry.ended += 1

    assert not await bench.pass_by(20_000, one_more)


async def test_calls_that_hang_as_long_as_they_may_are_told_and_are_not_ours() -> None:
    bench = Bench(longest_s=1e6)
    lane = bench.account.lanes["custom"]
    assert await lane.enter(lambda: True)
    (one,) = await bench.pass_by(AFTER_S + 60)
    assert not one.ours
    assert one.why == "1 calls to WeChat are under way, and none of it has come back"


async def test_what_nobody_works_on_is_told(bench: Bench) -> None:
    bench.desk.slices = 0
    (one,) = await bench.pass_by(AFTER_S + 60)
    assert one.why == "no task works on it, and nothing is known to keep it"
    assert one.ours


async def test_a_lane_whose_places_leaked_is_told(bench: Bench) -> None:
    lane = bench.account.lanes["custom"]
    lane.change(None, 1)
    assert await lane.enter(lambda: True)  # and never leaves
    (one,) = await bench.pass_by(AFTER_S + 120)
    assert one.ours


@pytest.mark.parametrize("state", [JobState.HELD, JobState.PAUSED, JobState.CANCELLING])
async def test_a_job_that_is_not_to_go_on_is_not_stuck(bench: Bench, state: JobState) -> None:
    bench.entry.state = state
    assert not await bench.pass_by(2 * WAITING_S)


async def test_nor_is_one_whose_time_has_not_come(bench: Bench) -> None:
    bench.entry.due = False
    assert not await bench.pass_by(2 * WAITING_S)
    bench.entry.due = True
    assert not await bench.pass_by(AFTER_S - 30)


def _database(bench: Bench) -> None:
    bench.entry.waits_for = "its audience cannot be read: gone"


def _gate(bench: Bench) -> None:
    bench.account.gate.close(1e9, "WeChat cannot be reached")


def _lane(bench: Bench) -> None:
    bench.account.lanes["custom"].put_on_hold(HoldOf.QUOTA, "45009 quota used up", 1e9)


def _ledger(bench: Bench) -> None:
    bench.disk.trouble = "the ledger cannot be written"


def _token(bench: Bench) -> None:
    bench.account.tokens.unavailable = "the table holds no token"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keep", "words"),
    [(_database, "gone"), (_gate, "reached"), (_lane, "45009"), (_ledger, "written"), (_token, "no token")],
)
async def test_what_is_known_to_be_kept_is_told_after_long(
    bench: Bench, keep: Callable[[Bench], None], words: str
) -> None:
    keep(bench)
    assert not await bench.pass_by(WAITING_S)
    (one,) = await bench.pass_by(60)
    assert one.why.startswith("it waits for")
    assert words in one.why
    assert not one.ours


async def test_a_reason_that_comes_and_goes_does_not_hide_it(bench: Bench) -> None:
    def flicker() -> None:
        bench.entry.waits_for = "" if bench.entry.waits_for else "its audience cannot be read: gone"

    assert not await bench.pass_by(WAITING_S - 60, flicker)
    (one,) = await bench.pass_by(180, flicker)
    assert "gone" in one.why


async def test_what_other_jobs_of_its_account_wait_for_counts_for_it(bench: Bench) -> None:
    other = dataclasses.replace(bench.entry, job=dataclasses.replace(bench.entry.job, no=2, id="j2"))
    other.waits_for = "it cannot be planned: gone"
    bench.jobs.entries.append(other)
    assert not await bench.pass_by(2 * AFTER_S)


async def test_one_recipient_that_is_tried_again_and_again_is_told_after_long(bench: Bench) -> None:
    def again() -> None:
        bench.entry.tried += 1

    assert not await bench.pass_by(WAITING_S, again)
    (one,) = await bench.pass_by(60, again)
    assert "tried again and again" in one.why
    assert not one.ours


async def test_recipients_who_are_due_later_are_no_trouble(bench: Bench) -> None:
    bench.desk.slices = 0
    bench.disk.due_at = bench.clock.now() + timedelta(seconds=WAITING_S - 120)
    assert not await bench.pass_by(WAITING_S - 60)
    # It is past, and nobody has taken them.
    assert await bench.pass_by(AFTER_S + 60)


async def test_a_mass_message_that_is_gathered_is_no_trouble() -> None:
    bench = Bench(channel=ScriptedList("mass"))
    bench.desk.slices = 0
    bench.disk.due_at = WITH_ITS_CHUNK
    assert not await bench.pass_by(WAITING_S + 570)
    (one,) = await bench.pass_by(120)
    assert "gathered" in one.why


async def test_a_slow_rate_is_what_somebody_wanted(bench: Bench) -> None:
    lane = bench.account.lanes["custom"]
    lane.change(0.001, 960)

    def served() -> None:
        lane.admitted_s = bench.clock.monotonic_s() - 900  # another job's, a while ago
        if not lane.waiting:
            lane._waiting.append(None)  # type: ignore[arg-type]

    assert not await bench.pass_by(4 * WAITING_S, served)


async def test_behind_other_jobs_it_waits_for_its_turn(bench: Bench) -> None:
    bench.desk.slices = 0
    bench.desk.has_idle_task = False
    assert not await bench.pass_by(WAITING_S)
    (one,) = await bench.pass_by(60)
    assert "its turn" in one.why


async def test_a_long_query_may_take_its_time_while_it_is_planned() -> None:
    bench = Bench(longest_s=3000)
    bench.disk.planned = False
    assert not await bench.pass_by(3030)
    (one,) = await bench.pass_by(120)
    assert "its audience is being read" in one.why


async def test_one_whose_audience_is_not_read_yet_is_behind_others_that_are(bench: Bench) -> None:
    bench.disk.planned = False
    other = dataclasses.replace(bench.entry, job=dataclasses.replace(bench.entry.job, no=2, id="j2"))
    bench.jobs.entries.append(other)

    def one_more() -> None:
        other.ended += 1

    assert not await bench.pass_by(4 * AFTER_S, one_more)
    assert {one.job_id for one in await bench.pass_by(AFTER_S + 600)} == {"j0123456789ab", "j2"}


async def test_a_process_that_was_stopped_for_long_does_not_cry_when_it_goes_on(bench: Bench) -> None:
    await bench.pass_by(300)
    bench.clock.advance(5000)
    assert not await bench.stuck.look()
    assert not await bench.pass_by(AFTER_S - 30)


async def test_a_ledger_that_is_away_has_its_own_words(bench: Bench) -> None:
    bench.disk.away = True
    assert not await bench.pass_by(AFTER_S + 300)


async def test_a_cancelled_job_that_does_not_end_is_told(bench: Bench) -> None:
    bench.jobs.entries.clear()
    bench.jobs.closing[1] = dataclasses.replace(bench.entry.job, state=JobState.CANCELLING)
    assert not await bench.pass_by(AFTER_S)
    (one,) = await bench.pass_by(60)
    assert one.why == "it is cancelling, and does not come to its end"


async def test_of_very_many_the_ledger_is_asked_for_some(bench: Bench) -> None:
    bench.jobs.entries = [
        dataclasses.replace(bench.entry, job=dataclasses.replace(bench.entry.job, no=no))
        for no in range(1500)
    ]
    assert len(await bench.pass_by(AFTER_S + 60)) == 100


# -- vitals ------------------------------------------------------------------------------------------------


def _vitals(bench: Bench, told: Told | Unheard, beat: Beat) -> Vitals:
    return Vitals(beat, bench.desk, bench.stuck, LoopLag(bench.clock), told, bench.clock)  # type: ignore[arg-type]


async def test_progress_is_what_the_watchdog_is_fed_by(bench: Bench) -> None:
    beat = Beat()
    vitals = _vitals(bench, Unheard(), beat)
    assert not vitals.progressing()
    bench.clock.advance(16)
    assert vitals.progressing() == "loop: it has not come round for 16 s"
    bench.clock.advance(-16)
    beat.silent_s = 61
    assert vitals.progressing() == "ledger: it has not answered for 61 s"
    beat.silent_s = 0
    bench.desk.silent_s = 121
    assert vitals.progressing() == "tasks: nobody has looked for work for 121 s"
    beat.trouble = "the disk is full"
    assert not vitals.progressing()


async def test_a_job_that_stands_still_by_our_own_fault_is_no_progress(bench: Bench) -> None:
    vitals = _vitals(bench, Unheard(), Beat())
    await bench.pass_by(AFTER_S + 60)
    bench.clock.advance(-bench.clock.monotonic_s() + 1000)
    assert vitals.progressing().startswith("tasks: a job stands still since")


async def test_stuck_jobs_are_told_once_and_when_it_is_over(bench: Bench) -> None:
    told = Told()
    vitals = _vitals(bench, told, Beat())
    await bench.pass_by(AFTER_S + 60)
    for _ in range(3):
        vitals._tell(bench.stuck.found)
    assert told.kinds == ["job_stuck j0123456789ab"]
    assert [one["told"] for one in vitals.view()["stuck"]] == [True]
    vitals._tell(())
    assert told.kinds[1:] == ["job_stuck j0123456789ab over"]


async def test_of_many_stuck_jobs_a_few_are_told(bench: Bench) -> None:
    told = Told()
    vitals = _vitals(bench, told, Beat())
    found = tuple(Stuck(f"j{no}", "default", T0, "why", ours=False) for no in range(50))
    vitals._tell(found)
    assert len(told.kinds) == 3
    assert told.notices[0].facts["jobs_stuck"] == 50
    vitals._tell(found[1:])
    assert told.kinds[3:] == ["job_stuck j0 over", "job_stuck j3"]


async def test_where_nobody_hears_the_daemon_it_does_not_say_that_it_has_told(bench: Bench) -> None:
    vitals = _vitals(bench, Unheard(), Beat())
    await bench.pass_by(AFTER_S + 60)
    vitals._tell(bench.stuck.found)
    assert [one["told"] for one in vitals.view()["stuck"]] == [False]
