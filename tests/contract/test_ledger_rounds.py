"""The port `Ledger`: what operators and clocks do to jobs. Retries, closing, listing, forgetting, copies."""
# ruff: noqa: F811 - fixtures

from datetime import timedelta

import pytest
from bed.fakes import new_job
from bed.ledgers import SqliteHome, guard
from test_ledger_contract import bench, home  # noqa: F401

from broadcastd.errors import DeadlinePassedError, JobEndedError, LedgerUnavailableError
from broadcastd.ledgers.sqlite import SqliteLedger
from broadcastd.model import Hold, HoldKind, OnUnknown, Round, Split
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState

FAILED = [Outcome.FAILED]


async def done_job(bench, fates, **about):
    """A job that has ended, with one slice: id to outcome."""
    no = await bench.job(sorted(fates), **about)
    lease = await bench.one(no)
    await bench.mark(lease, max(fates))
    for one, outcome in fates.items():
        await bench.end(no, one, outcome=outcome)
    assert (await bench.settle(lease)).done
    assert (await bench.ledger.finish(no, bench.clock.now())).state is JobState.DONE
    return no


async def retry(bench, no, round_no, only, not_after=None):
    return await bench.ledger.retry(no, round_no, only, bench.clock.now(), not_after)


async def plan_retry(bench, no):
    ids = await bench.ledger.retried_ids(no, None, 1000)
    await bench.ledger.add_slices(no, [ids], planned=True)
    return ids


async def close_whole(bench, no):
    assert await bench.ledger.close_slices(no, 100, bench.clock.now()) == 0
    return await bench.ledger.finish(no, bench.clock.now())


# -- moving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [JobState.PAUSED, JobState.HELD])
async def test_nobody_of_a_job_that_stands_is_leased_and_it_stands_after_a_kill(bench, target):
    no = await bench.job([1, 2], [3])
    assert await bench.ledger.move(no, target, "because")
    assert not await bench.ledger.move(no, target, "again")
    now = bench.clock.now()
    for _ in range(2):
        assert await bench.ledger.open_slices(now) == {}
        assert await bench.ledger.next_due_at() is None
        assert await bench.lease(no, 9) == []
        await bench.reopen()
    job = await bench.look(no)
    assert (job.state, job.reason) == (target, "because")
    assert await bench.ledger.resume(no)
    assert not await bench.ledger.resume(no)
    assert len(await bench.lease(no, 9)) == 2


async def test_a_job_that_froze_nobody_yet_is_accepted_again_when_it_is_resumed(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.move(no, JobState.PAUSED)
    await bench.ledger.resume(no)
    assert (await bench.look(no)).state is JobState.ACCEPTED


async def test_a_held_job_may_be_paused_and_a_paused_one_is_not_held(bench):
    no = await bench.job([1])
    await bench.ledger.move(no, JobState.HELD, "quota", Hold(HoldKind.TROUBLE))
    assert await bench.ledger.move(no, JobState.PAUSED, "an operator")
    assert not await bench.ledger.move(no, JobState.HELD, "more trouble", Hold(HoldKind.TROUBLE))
    assert (await bench.look(no)).reason == "an operator"


# -- closing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closing", "ended"),
    [(JobState.CANCELLING, JobState.CANCELLED), (JobState.EXPIRING, JobState.EXPIRED)],
)
@pytest.mark.parametrize("on_unknown", OnUnknown)
async def test_a_closed_job_gives_everybody_an_outcome(bench, closing, ended, on_unknown):
    no = await bench.job([1, 2, 3, 4, 5, 6], [7, 8], [9], on_unknown=on_unknown)
    first, second = await bench.lease(no, 2)
    await bench.mark(first, 5)
    await bench.end(no, 1)
    await bench.put_off(first, 2, in_s=60, tries=1)  # refused for certain
    await bench.put_off(first, 3, in_s=1, doubts=1, in_doubt=True)  # asked, no answer
    # 4 and 5 were let through, and nothing is known of them; 6 was not.
    assert await bench.ledger.move(no, closing, "because")
    assert await bench.ledger.close_slices(no, 100, bench.clock.now()) == 2, "two are worked on"
    assert await bench.ledger.finish(no, bench.clock.now()) is None
    await bench.settle(first)
    await bench.settle(second)
    job = await close_whole(bench, no)
    assert (job.state, job.reason, job.books.balanced) == (ended, "because", True)
    assert bench.outcomes(no) == {
        1: "sent", 2: "skipped", 3: "unknown", 4: "unknown", 5: "unknown",
        6: "skipped", 7: "skipped", 8: "skipped", 9: "skipped",
    }  # fmt: skip
    assert job.books.in_doubt == 3
    assert bench.home.rows("SELECT count(*) FROM deferrals") == [(0,)]
    assert not await bench.ledger.resume(no)
    assert not await bench.ledger.move(no, JobState.PAUSED)


async def test_who_is_in_doubt_when_a_closing_job_is_killed_is_unknown(bench):
    no = await bench.job([1, 2, 3])
    await bench.mark(await bench.one(no), 2)
    await bench.ledger.move(no, JobState.CANCELLING)
    opening = await bench.reopen()
    assert opening.in_doubt == 2
    job = await close_whole(bench, no)
    assert bench.outcomes(no) == {1: "unknown", 2: "unknown", 3: "skipped"}
    assert (job.state, job.books.in_doubt) == (JobState.CANCELLED, 2)


async def test_what_a_paused_job_left_in_doubt_is_unknown_when_it_is_cancelled(bench):
    no = await bench.job([1, 2])
    await bench.mark(await bench.one(no), 1)
    await bench.ledger.move(no, JobState.PAUSED)
    await bench.reopen()
    await bench.ledger.move(no, JobState.CANCELLING)
    job = await close_whole(bench, no)
    assert bench.outcomes(no) == {1: "unknown", 2: "skipped"}
    assert job.books.in_doubt == 1, "counted once"


async def test_closing_goes_by_few_slices_and_may_be_killed_between(bench):
    no = await bench.job([1], [2], [3], [4], [5])
    await bench.ledger.move(no, JobState.CANCELLING)
    assert await bench.ledger.close_slices(no, 2, bench.clock.now()) == 3
    await bench.reopen()
    assert await bench.ledger.close_slices(no, 2, bench.clock.now()) == 1
    job = await close_whole(bench, no)
    assert job.books.outcomes == {Outcome.SKIPPED: 5}


async def test_slices_of_a_job_that_goes_on_are_not_closed(bench):
    no = await bench.job([1])
    assert await bench.ledger.close_slices(no, 9, bench.clock.now()) == 1
    assert bench.outcomes(no) == {}


async def test_a_cancelled_job_is_planned_no_further(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [[1, 2]], planned=False)
    await bench.ledger.move(no, JobState.CANCELLING)
    with pytest.raises(JobEndedError):
        await bench.ledger.add_slices(no, [[3]], planned=True)
    job = await close_whole(bench, no)
    assert (job.books.recipients, job.books.planned, job.books.balanced) == (2, True, True)
    with pytest.raises(JobEndedError):
        await bench.ledger.add_slices(no, [[3]], planned=True)


async def test_a_job_that_was_cancelled_before_anybody_was_frozen(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.move(no, JobState.CANCELLING)
    job = await close_whole(bench, no)
    assert (job.state, job.books.recipients, job.books.balanced) == (JobState.CANCELLED, 0, True)


# -- retrying ----------------------------------------------------------------------------------------------


async def test_a_retry_asks_only_whom_it_is_for_and_keeps_the_history(bench):
    fates = {1: Outcome.SENT, 2: Outcome.FAILED, 3: Outcome.REJECTED, 4: Outcome.FAILED}
    no = await done_job(bench, fates)
    first_sent_at = (await bench.look(no)).first_sent_at
    bench.clock.advance(60)
    assert await retry(bench, no, 2, FAILED)
    job = await bench.look(no)
    assert (job.state, job.books.planned, job.books.balanced) == (JobState.RUNNING, False, False)
    assert job.round == Round(2, (Outcome.FAILED,), bench.clock.now(), None, 0, 0)
    assert await plan_retry(bench, no) == [2, 4]
    await bench.reopen()
    lease = await bench.one(no)
    assert (lease.ids, lease.unasked, lease.round_no) == ((2, 4), (2, 4), 2)
    await bench.mark(lease, 4)
    await bench.record(outcomes=[bench.row(no, 2, round_no=2)])
    await bench.record(outcomes=[bench.row(no, 4, Outcome.REJECTED, errcode=40003, round_no=2)])
    assert (await bench.settle(lease)).done
    job = await bench.ledger.finish(no, bench.clock.now())
    assert job.state is JobState.DONE
    assert job.books.outcomes == {Outcome.SENT: 2, Outcome.REJECTED: 2}
    assert job.books.recipients == job.books.ended == 4
    assert job.books.errcodes == {40003: 1}
    assert (job.round.recipients, job.round.ended, job.round.finished_at) == (2, 2, bench.clock.now())
    assert job.first_sent_at == first_sent_at
    former = bench.home.rows("SELECT recipient_id, round, outcome FROM former_outcomes ORDER BY recipient_id")
    assert former == [(2, 1, "failed"), (4, 1, "failed")]
    assert [one.no for one in await bench.ledger.rounds(no)] == [1, 2]


async def test_a_kill_in_a_retry_asks_again_who_is_in_doubt(bench):
    no = await done_job(bench, {1: Outcome.FAILED, 2: Outcome.FAILED})
    await retry(bench, no, 2, FAILED)
    await plan_retry(bench, no)
    await bench.mark(await bench.one(no), 1)
    assert (await bench.reopen()).in_doubt == 1
    lease = await bench.one(no)
    assert [one.recipient_id for one in lease.deferrals] == [1]
    assert lease.unasked == (2,)
    assert (await bench.books(no)).in_doubt == 1


async def test_who_may_have_got_it_is_counted_in_doubt_before_a_retry_asks_again(bench):
    fates = {1: Outcome.UNKNOWN, 2: Outcome.FAILED, 3: Outcome.UNKNOWN, 4: Outcome.SENT}
    no = await done_job(bench, fates)
    await retry(bench, no, 2, [Outcome.UNKNOWN, Outcome.FAILED])
    await plan_retry(bench, no)
    assert (await bench.books(no)).in_doubt == 2


async def test_who_may_have_got_it_and_is_not_asked_again_is_not_counted(bench):
    no = await done_job(bench, {1: Outcome.FAILED, 2: Outcome.UNKNOWN, 3: Outcome.FAILED})
    await retry(bench, no, 2, FAILED)
    await plan_retry(bench, no)
    assert (await bench.books(no)).in_doubt == 0


async def test_in_a_cancelled_retry_who_was_not_asked_keeps_the_former_outcome(bench):
    no = await done_job(bench, dict.fromkeys(range(1, 7), Outcome.FAILED))
    await retry(bench, no, 2, FAILED)
    await plan_retry(bench, no)
    lease = await bench.one(no)
    await bench.mark(lease, 4)
    await bench.record(outcomes=[bench.row(no, 1, round_no=2)])
    await bench.put_off(lease, 2, in_s=60, tries=1)  # refused for certain: asked, and not reached
    await bench.put_off(lease, 3, in_s=1, doubts=1, in_doubt=True)
    await bench.ledger.move(no, JobState.CANCELLING)
    await bench.settle(lease)
    job = await close_whole(bench, no)
    assert job.state is JobState.CANCELLED
    assert bench.outcomes(no) == {
        1: "sent", 2: "failed", 3: "unknown", 4: "unknown", 5: "failed", 6: "failed",
    }  # fmt: skip
    assert job.books.outcomes == {Outcome.SENT: 1, Outcome.UNKNOWN: 2, Outcome.FAILED: 3}
    assert job.books.balanced
    # And so they can be asked in the next one.
    assert await retry(bench, no, 3, FAILED)
    assert await plan_retry(bench, no) == [2, 5, 6]


async def test_what_comes_late_from_a_former_round_changes_nothing(bench):
    no = await done_job(bench, {1: Outcome.FAILED, 2: Outcome.FAILED})
    await retry(bench, no, 2, FAILED)
    await plan_retry(bench, no)
    await bench.record(outcomes=[bench.row(no, 1, round_no=2)])
    await bench.record(outcomes=[bench.row(no, 1, Outcome.REJECTED), bench.row(no, 2, Outcome.REJECTED)])
    assert bench.outcomes(no) == {1: "sent", 2: "failed"}
    await bench.record(outcomes=[bench.row(no, 1, Outcome.REJECTED, round_no=2)])
    assert bench.outcomes(no) == {1: "sent", 2: "failed"}
    assert (await bench.look(no)).round.ended == 1


async def test_a_retry_that_is_none(bench):
    no = await done_job(bench, {1: Outcome.FAILED, 2: Outcome.SENT})
    assert not await retry(bench, no, 2, [Outcome.UNKNOWN]), "nobody ended so"
    assert not await retry(bench, no, 1, FAILED)
    assert not await retry(bench, no, 3, FAILED)
    assert await retry(bench, no, 2, FAILED)
    assert not await retry(bench, no, 2, FAILED), "it is begun already"
    assert not await retry(bench, no, 3, FAILED), "it has not ended"
    running = await bench.job([1])
    assert not await retry(bench, running, 2, FAILED)


async def test_planning_of_a_retry_goes_on_where_it_was_cut_off(bench):
    no = await done_job(bench, dict.fromkeys(range(1, 10), Outcome.SKIPPED))
    await retry(bench, no, 2, [Outcome.SKIPPED])
    assert await bench.ledger.retried_ids(no, None, 4) == [1, 2, 3, 4]
    await bench.ledger.add_slices(no, [[1, 2], [3, 4]], planned=False)
    await bench.reopen()
    (lease,) = await bench.lease(no)
    await bench.record(outcomes=[bench.row(no, 1, round_no=2)])
    assert await bench.ledger.retried_ids(no, (await bench.look(no)).planned_through, 9) == [5, 6, 7, 8, 9]
    assert lease.ids == (1, 2)


async def test_a_retry_has_the_deadline_that_it_is_given(bench):
    no = await done_job(bench, {1: Outcome.FAILED})
    later = bench.clock.now() + timedelta(hours=1)
    await retry(bench, no, 2, FAILED, later)
    assert (await bench.look(no)).not_after == later


# -- times -------------------------------------------------------------------------------------------------


async def test_a_deadline_that_has_passed_is_refused_but_a_known_key_is_not(bench):
    now = bench.clock.now()
    with pytest.raises(DeadlinePassedError):
        await bench.accept(not_after=now)
    soon = now + timedelta(seconds=1)
    first = await bench.accept(key="k", content="a post", not_after=soon)
    bench.clock.advance(60)
    assert (await bench.accept(key="k", content="a post", not_after=soon)).job.id == first.job.id


async def test_times_are_kept(bench):
    now = bench.clock.now()
    begins, ends = now + timedelta(hours=1, milliseconds=7), now + timedelta(hours=2)
    job = (await bench.accept(not_before=begins, not_after=ends)).job
    assert await bench.ledger.job(job.id) == job
    assert (job.not_before, job.not_after, job.time) == (begins, ends, begins)


async def test_without_a_key_another_schedule_is_another_job_and_under_one_it_is_not(bench):
    later = bench.clock.now() + timedelta(hours=1)
    assert not (await bench.accept(content="a post")).repeat
    assert not (await bench.accept(content="a post", not_before=later)).repeat
    assert (await bench.accept(content="a post", not_before=later)).repeat
    assert not (await bench.accept(content="a post", key="k")).repeat
    assert (await bench.accept(content="a post", key="k", not_before=later)).repeat


# -- listing -----------------------------------------------------------------------------------------------


async def everybody(bench, no):
    found = []
    block, last = await bench.ledger.listed(no, None)
    while last is not None:
        found += block
        block, last = await bench.ledger.listed(no, last)
    return found


async def test_everybody_is_listed_once_with_the_present_outcome(bench):
    many = [-1, *range(1, 500)]
    no = await bench.job(many, [500, 501], [502])
    lease = await bench.one(no)
    await bench.end(no, 1, outcome=Outcome.REJECTED, errcode=43004)
    now = bench.clock.now()
    block, last = await bench.ledger.listed(no, None)
    assert [one.recipient_id for one in block] == many
    # A split between two blocks: the tail has a new number, and was listed before.
    split = Split(lease, tuple(many[:200]), tuple(many[200:]))
    await bench.ledger.split([split], now, now + timedelta(seconds=60))
    rest, _ = await bench.ledger.listed(no, last)
    assert [one.recipient_id for one in rest] == [500, 501, 502]
    listed = await everybody(bench, no)
    assert [one.recipient_id for one in listed] == [*many, 500, 501, 502]
    found = {one.recipient_id: one for one in listed}
    assert (found[1].outcome, found[1].openid, found[1].errcode, found[1].at) == (
        Outcome.REJECTED, "o1", 43004, now,
    )  # fmt: skip
    assert all(found[one].outcome is None for one in range(2, 503))


async def test_after_a_retry_nobody_is_listed_twice(bench):
    no = await done_job(bench, {1: Outcome.FAILED, 2: Outcome.SENT})
    await retry(bench, no, 2, FAILED)
    await plan_retry(bench, no)
    await bench.record(outcomes=[bench.row(no, 1, round_no=2)])
    found = await everybody(bench, no)
    assert [(one.recipient_id, one.outcome.value, one.round_no) for one in found] == [
        (1, "sent", 2), (2, "sent", 1),
    ]  # fmt: skip


# -- forgetting --------------------------------------------------------------------------------------------

PEOPLE = ("outcomes", "former_outcomes", "deferrals", "slices")
KEEP = timedelta(days=30)


async def purge_all(bench, limit=3):
    gone = 0
    while rows := await bench.ledger.purge(bench.clock.now(), KEEP, limit):
        gone += rows
    return gone


async def test_people_are_forgotten_after_a_while_and_totals_after_a_year(bench):
    no = await done_job(bench, {1: Outcome.FAILED, **dict.fromkeys(range(2, 12), Outcome.SENT)}, key="k")
    await retry(bench, no, 2, FAILED)
    await plan_retry(bench, no)
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.record(outcomes=[bench.row(no, 1, round_no=2)])
    await bench.settle(lease)
    job = await bench.ledger.finish(no, bench.clock.now())
    running = await bench.job([1, 2, 3])
    bench.clock.advance(29 * 86400)
    await purge_all(bench)  # the other job's key: its content's, of ten minutes
    assert len(await everybody(bench, no)) == 11
    bench.clock.advance(2 * 86400)
    assert await purge_all(bench) >= 11 + 1 + 2
    for table in PEOPLE:
        assert bench.home.rows(f"SELECT count(*) FROM {table} WHERE job_no = {no}") == [(0,)]
    assert bench.home.rows(f"SELECT count(*) FROM slices WHERE job_no = {running}") == [(1,)]
    kept = await bench.ledger.job(job.id)
    assert kept.books == job.books
    assert kept.purged_at == bench.clock.now()
    assert [one.no for one in await bench.ledger.rounds(no)] == [1, 2]
    assert not await retry(bench, no, 3, FAILED)
    assert (await bench.accept(key="k", content="post 1")).repeat
    bench.clock.advance(336 * 86400)
    await purge_all(bench)
    assert await bench.ledger.job(job.id) is None
    for table in ("tallies", "rounds", "job_keys"):
        assert bench.home.rows(f"SELECT count(*) FROM {table} WHERE job_no = {no}") == [(0,)]
    assert (await bench.look(running)).state is JobState.RUNNING
    assert not (await bench.accept(key="k", content="post 1")).repeat


async def test_little_is_forgotten_at_once(bench):
    no = await done_job(bench, dict.fromkeys(range(1, 101), Outcome.SENT))
    bench.clock.advance(31 * 86400)
    before = 100
    while before:
        assert await bench.ledger.purge(bench.clock.now(), KEEP, 10) <= 20
        ((left,),) = bench.home.rows(f"SELECT count(*) FROM outcomes WHERE job_no = {no}")
        assert before - left <= 10
        assert left < before
        before = left


# -- whose ledger it is ------------------------------------------------------------------------------------


async def test_the_reports_key_stays(bench):
    key = await bench.ledger.report_key()
    assert len(key) == 64
    await bench.reopen()
    assert await bench.ledger.report_key() == key


async def test_a_downtime_is_told_by_the_heartbeat_and_a_long_one_holds_what_would_go_on(bench):
    running, paused = await bench.job([1]), await bench.job([1])
    accepted = (await bench.accept()).job.no
    later = (await bench.accept(not_before=bench.clock.now() + timedelta(days=3))).job.no
    await bench.ledger.move(paused, JobState.PAUSED, "an operator")
    bench.clock.advance(3600)
    await bench.ledger.alive(bench.clock.now())
    bench.clock.advance(86400)
    assert (await bench.reopen()).away == timedelta(days=1)
    assert (await bench.look(running)).state is JobState.RUNNING
    bench.clock.advance(86401)
    await bench.reopen()
    states = [(await bench.look(no)).state.value for no in (running, paused, accepted, later)]
    assert states == ["held", "paused", "held", "accepted"]
    assert "away for 24.0 h" in (await bench.look(running)).reason
    await bench.ledger.resume(running)
    await bench.ledger.resume(accepted)
    states = [(await bench.look(no)).state.value for no in (running, accepted)]
    assert states == ["running", "accepted"]
    await bench.reopen()
    assert (await bench.look(running)).state is JobState.RUNNING, "held once"


async def test_plain_starts_never_take_the_ledger_for_a_copy(bench):
    await bench.job([1])
    for _ in range(5):
        assert (await bench.reopen()).copied == ""
        await bench.ledger.alive(bench.clock.now())
        await bench.ledger.alive(bench.clock.now())
        assert (await bench.reopen()).copied == ""
        bench.clock.advance(60)
    assert bench.ledger.copied == ""


@pytest.fixture
def file(home):
    if not isinstance(home, SqliteHome):
        pytest.skip("a file is what is copied here")
    return home.path


async def opened(path, clock, guard_):
    ledger = SqliteLedger(path, clock, guard_)
    await ledger.__aenter__()
    return ledger


async def test_a_copy_in_another_place_holds_everything_until_it_is_adopted(bench, file, tmp_path):
    running, paused = await bench.job([1]), await bench.job([1])
    await bench.ledger.move(paused, JobState.PAUSED)
    await bench.home.kill()
    copy = tmp_path / "copy.db"
    copy.write_bytes(file.read_bytes())
    for _ in range(2):
        ledger = await opened(copy, bench.clock, guard(copy))
        assert str(file) in ledger.copied
        assert [job.state.value for job in await ledger.jobs(9)] == ["paused", "held"]
        await ledger.alive(bench.clock.now())
        await ledger.__aexit__(None, None, None)
    ledger = await opened(copy, bench.clock, guard(copy))
    new = await ledger.accept(new_job(bench.clock.now(), id="j-new", key="new"), timedelta(0))
    assert (new.job.state, new.job.reason) == (JobState.HELD, ledger.copied)
    assert (await ledger.accept(new_job(bench.clock.now(), id="j-new2", key="new"), timedelta(0))).repeat
    assert await ledger.adopt() == 2
    assert ledger.copied == ""
    assert [job.state.value for job in await ledger.jobs(9)] == ["accepted", "paused", "running"]
    await ledger.__aexit__(None, None, None)
    ledger = await opened(copy, bench.clock, guard(copy))
    assert ledger.copied == ""
    await ledger.__aexit__(None, None, None)
    # And the original is what it was.
    assert (await bench.reopen()).copied == ""
    assert (await bench.look(running)).state is JobState.RUNNING


async def test_a_ledger_on_another_machine_is_a_copy(bench, file):
    await bench.job([1])
    await bench.home.kill()
    ledger = await opened(file, bench.clock, guard(file, machine="another"))
    assert "another machine" in ledger.copied
    await ledger.__aexit__(None, None, None)
    assert (await bench.reopen()).copied == "", "back on its own machine it is the true one"


@pytest.mark.parametrize("by", ["starts", "beats"])
async def test_a_ledger_that_was_restored_from_a_backup_is_a_copy(bench, file, by):
    await bench.job([1])
    await bench.ledger.alive(bench.clock.now())
    await bench.home.kill()
    backup = file.read_bytes()
    await bench.home.open()
    if by == "beats":
        backup = None
        await bench.home.kill()
        backup = file.read_bytes()
        await bench.home.open()
    await bench.ledger.alive(bench.clock.now())
    await bench.home.kill()
    file.write_bytes(backup)
    await bench.home.open()
    assert "worked on since" in bench.ledger.copied
    assert [job.state.value for job in await bench.ledger.jobs(9)] == ["held"]


async def test_an_adopted_ledger_without_its_file_is_a_copy_at_once(bench, file):
    await bench.job([1])
    await bench.ledger.adopt()
    await bench.home.kill()
    for one in (file.parent / "identity").iterdir():
        one.unlink()
    assert "missing or damaged" in (await bench.reopen()).copied


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
async def test_a_damaged_identity_holds_everything_until_it_is_adopted(bench, file, content):
    no = await bench.job([1])
    await bench.ledger.alive(bench.clock.now())
    await bench.home.kill()
    for one in (file.parent / "identity").glob("*.json"):
        one.write_bytes(content)
    assert "missing or damaged" in (await bench.reopen()).copied
    assert (await bench.look(no)).state is JobState.HELD
    assert await bench.ledger.adopt() == 1
    assert (await bench.reopen()).copied == ""


async def test_a_ledger_that_was_deleted_under_the_daemon_takes_nothing_more(bench, file, tmp_path):
    file.rename(tmp_path / "away.db")
    with pytest.raises(LedgerUnavailableError, match="deleted or replaced"):
        await bench.ledger.alive(bench.clock.now())
    assert "deleted or replaced" in bench.ledger.trouble
    with pytest.raises(LedgerUnavailableError, match="deleted or replaced"):
        await bench.accept()
    (tmp_path / "away.db").rename(file)
    await bench.ledger.alive(bench.clock.now())
    assert bench.ledger.trouble == ""
    await bench.accept()


async def test_a_ledger_without_its_file_is_a_copy_unless_it_is_new(bench, file):
    await bench.job([1])
    for one in (file.parent / "identity").iterdir():
        one.unlink()
    assert (await bench.reopen()).copied == "", "it was made just now"
    await bench.ledger.alive(bench.clock.now())
    await bench.home.kill()
    for one in (file.parent / "identity").iterdir():
        one.unlink()
    assert "missing" in (await bench.reopen()).copied
