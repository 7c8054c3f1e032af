"""One suite for the port `Ledger`, over all its implementations."""

import asyncio
import os
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import timedelta

import pytest
from bed.fakes import FakeClock, new_job
from bed.ledgers import LEDGER_PARAMS, LEDGERS, guard

from broadcastd.batch import Batch, DeferralRow, OutcomeRow, SliceMark
from broadcastd.errors import (
    AlreadyFrozenError,
    DeadlinePassedError,
    KeyConflictError,
    LedgerInUseError,
    LedgerUnavailableError,
    LedgerVersionError,
)
from broadcastd.ledgers.sqlite import SqliteLedger
from broadcastd.model import Deferral, OnUnknown, Split
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState

WINDOW = timedelta(seconds=600)
NO_WINDOW = timedelta(0)
LEASE_S = 60


only_sqlite = pytest.mark.parametrize("home", ["sqlite"], indirect=True)


@pytest.fixture(params=LEDGER_PARAMS, autouse=True)
async def home(request, tmp_path):
    home = LEDGERS[request.param](request)(tmp_path, FakeClock())
    await home.open()
    yield home
    await home.kill()


class Bench:
    """Short words for what the tests do to a ledger."""

    def __init__(self, home):
        self.home = home
        self.clock = home.clock
        self.accepted = 0

    @property
    def ledger(self):
        return self.home.ledger

    async def reopen(self):
        """kill -9, and a new start."""
        await self.home.kill()
        await self.home.open()
        return self.home.opening

    async def accept(self, window=WINDOW, **about):
        self.accepted += 1
        about = {"id": f"j{self.accepted}", "content": f"post {self.accepted}", **about}
        return await self.ledger.accept(new_job(self.clock.now(), **about), window)

    async def job(self, *slices, **about):
        """A job with these slices, planned."""
        no = (await self.accept(**about)).job.no
        await self.ledger.add_slices(no, slices, planned=True)
        return no

    async def lease(self, no, share=1, for_s=LEASE_S):
        now = self.clock.now()
        return await self.ledger.lease({no: share}, now, now + timedelta(seconds=for_s))

    async def one(self, no):
        (lease,) = await self.lease(no)
        return lease

    async def record(self, *, marks=(), outcomes=(), deferrals=()):
        return await self.ledger.record(Batch(list(marks), list(outcomes), list(deferrals)), self.clock.now())

    async def mark(self, lease, upto=None, armed=()):
        """Whether the mark was granted."""
        return lease.token not in await self.record(marks=[SliceMark(lease, upto, list(armed))])

    def row(
        self, no, one, outcome=Outcome.SENT, channel="custom", errcode=0, *, was_deferred=False, round_no=1
    ):
        now = self.clock.now()
        return OutcomeRow(no, one, f"o{one}", outcome, channel, errcode, now, was_deferred, round_no)

    async def end(self, no, *ids, **about):
        await self.record(outcomes=[self.row(no, one, **about) for one in ids])

    def put_off_row(self, lease, one, in_s=0.0, in_doubt=False, **about):
        due_at = self.clock.now() + timedelta(seconds=in_s)
        return DeferralRow(lease.job_no, lease.slice_no, Deferral(one, due_at, **about), in_doubt)

    async def put_off(self, lease, one, **about):
        await self.record(deferrals=[self.put_off_row(lease, one, **about)])

    async def settle(self, lease):
        return await self.ledger.settle(lease, self.clock.now())

    async def look(self, no):
        return next(job for job in await self.ledger.jobs(1000) if job.no == no)

    async def books(self, no):
        return (await self.look(no)).books

    def outcomes(self, no):
        """Recipient to outcome, as the table has it."""
        found = self.home.rows(f"SELECT recipient_id, outcome FROM outcomes WHERE job_no = {no}")
        assert len(found) == len({one for one, _ in found})
        return dict(found)


@pytest.fixture
def bench(home):
    return Bench(home)


# -- accept ------------------------------------------------------------------------------------------------


async def test_a_job_is_kept_as_it_was_asked_for(bench):
    about = {
        "phone": "110", "key": "order-17", "ref": "p3", "flag": 2, "account": "shop",
        "content": "信息 \U0001f600\0\n",
        "on_unknown": OnUnknown.LEAVE,
    }  # fmt: skip
    accepted = await bench.accept(**about)
    assert not accepted.repeat
    await bench.reopen()
    job = await bench.ledger.job("j1")
    assert job == accepted.job
    assert (job.content, job.phone, job.key, job.ref, job.flag, job.account) == (
        "信息 \U0001f600\0\n", "110", "order-17", "p3", 2, "shop",
    )  # fmt: skip
    assert job.state is JobState.ACCEPTED
    assert job.accepted_at == bench.clock.now()
    assert job.on_unknown is OnUnknown.LEAVE
    assert job.messages == {"custom": job.content, "template": "{}"}


async def test_the_largest_content_is_kept_whole(bench):
    content = "\U0001f600\0'\\\"%" * 25_000
    await bench.accept(content=content, key="k")
    job = await bench.ledger.job("j1")
    assert job.content == job.messages["custom"] == content


async def test_a_job_has_one_name(bench):
    await bench.accept()
    assert [await bench.ledger.job(name) for name in ("J1", "j1 ", "j1\0")] == [None] * 3


async def test_openids_are_kept_as_they_are(bench):
    no = await bench.job([1, 2, 3])
    names = {1: "oAbc", 2: "oabc ", 3: "信\U0001f600"}
    now = bench.clock.now()
    await bench.record(
        outcomes=[OutcomeRow(no, one, name, Outcome.SENT, "custom", 0, now) for one, name in names.items()]
    )
    listed, _ = await bench.ledger.listed(no, 0)
    assert {one.recipient_id: one.openid for one in listed} == names


async def test_a_test_sends_openids_are_kept(bench):
    await bench.accept(to=("o1", "o2"))
    assert (await bench.ledger.job("j1")).to == ("o1", "o2")


async def test_a_key_that_comes_again_finds_its_job_with_its_books(bench):
    first = await bench.accept(key="k", content="a post")
    await bench.ledger.add_slices(first.job.no, [[1, 2]], planned=True)
    await bench.end(first.job.no, 1)
    again = await bench.accept(key="k", content="a post")
    assert again.repeat
    assert again.job.id == first.job.id
    assert again.job.books.ended == 1
    assert len(await bench.ledger.jobs(10)) == 1


async def test_a_key_outlives_the_process_and_most_of_a_year(bench):
    await bench.accept(key="k", content="a post")
    await bench.reopen()
    bench.clock.advance(364 * 86400)
    assert (await bench.accept(key="k", content="a post")).repeat
    bench.clock.advance(2 * 86400)
    assert not (await bench.accept(key="k", content="another post")).repeat


async def test_a_key_with_other_content_is_a_conflict_that_names_the_job(bench):
    await bench.accept(key="k", content="a post")
    with pytest.raises(KeyConflictError, match=r"'k' belongs to job j1") as conflict:
        await bench.accept(key="k", content="another post")
    assert conflict.value.job_id == "j1"
    assert len(await bench.ledger.jobs(10)) == 1


@pytest.mark.parametrize(
    "other", [{"flag": 1}, {"flag": 0}, {"account": "shop"}, {"key": "K"}, {"key": "k "}]
)
async def test_a_key_is_of_its_account_and_flag(bench, other):
    await bench.accept(key="k", content="a post")
    about = {"key": "k", "content": "a post", **other}
    assert not (await bench.accept(**about)).repeat
    assert (await bench.accept(**about)).job.id == "j2"


@pytest.mark.parametrize("kind", [{"to": ("o1",)}, {"dry_run": True}])
async def test_test_sends_and_dry_runs_never_take_a_key(bench, kind):
    assert not (await bench.accept(key="k", content="a post", **kind)).repeat
    assert not (await bench.accept(key="k", content="a post", **kind)).repeat
    assert not (await bench.accept(key="k", content="the real one")).repeat
    assert not (await bench.accept(key="k", content="a post", **kind)).repeat


async def test_jobs_that_come_at_once_are_taken_in_as_if_one_came_after_the_other(bench):
    await bench.accept(id="old", key="old", content="a post")
    await bench.accept(id="past", content="long ago")
    await bench.clock.sleep(3600)
    now, past = bench.clock.now(), bench.clock.now() - timedelta(seconds=1)
    wishes = [
        {"id": "a", "key": "k", "content": "a post"},
        {"id": "b", "key": "k", "content": "a post"},
        {"id": "c", "key": "k", "content": "another post"},
        {"id": "d", "key": "k", "content": "a post", "flag": 1},
        {"id": "e", "key": "old", "content": "a post", "not_after": past},
        {"id": "f", "key": "late", "content": "a post", "not_after": past},
        {"id": "g", "key": "late", "content": "a post", "not_after": now + timedelta(seconds=9)},
        {"id": "h", "content": "long ago"},
        {"id": "i", "content": "long ago"},
        {"id": "j", "key": "k", "content": "a test", "to": ("o1",)},
    ]
    answers = await asyncio.gather(*(bench.accept(**one) for one in wishes), return_exceptions=True)
    assert [_in_short(one) for one in answers] == [
        "new a", "again a", "k belongs to a", "new d", "again old", "too late", "new g",
        "new h", "again h", "new j",
    ]  # fmt: skip
    new = [one.job for one in answers if _in_short(one).startswith("new")]
    found = {job.id: job for job in await bench.ledger.jobs(100)}
    assert {job.id: found[job.id] for job in new} == {job.id: job for job in new}
    assert found.keys() == {"old", "past", *(job.id for job in new)}


def _in_short(answer):
    match answer:
        case KeyConflictError():
            return f"{answer.key} belongs to {answer.job_id}"
        case DeadlinePassedError():
            return "too late"
    return f"{'again' if answer.repeat else 'new'} {answer.job.id}"


async def test_more_jobs_at_once_than_one_statement_takes(bench):
    many = [{"key": f"k{n}", "content": "\U0001f600" * (9000 * (n % 2) + n)} for n in range(150)]
    answers = await asyncio.gather(*(bench.accept(**one) for one in many))
    assert [one.repeat for one in answers] == [False] * 150
    assert sorted(await bench.ledger.jobs(1000), key=lambda job: job.no) == [one.job for one in answers]
    again = await asyncio.gather(*(bench.accept(**one) for one in many))
    assert [(one.repeat, one.job) for one in again] == [(True, one.job) for one in answers]


async def test_without_a_key_the_content_is_the_key_for_a_while(bench):
    assert not (await bench.accept(content="a post")).repeat
    bench.clock.advance(599)
    assert (await bench.accept(content="a post")).job.id == "j1"
    assert not (await bench.accept(content="a post", phone="111")).repeat
    assert not (await bench.accept(content="a post", flag=1)).repeat
    bench.clock.advance(1)
    late = await bench.accept(content="a post")
    assert not late.repeat
    bench.clock.advance(599)
    assert (await bench.accept(content="a post")).job.id == late.job.id


async def test_no_window_no_deduplication(bench):
    assert not (await bench.accept(NO_WINDOW, content="a post")).repeat
    assert not (await bench.accept(NO_WINDOW, content="a post")).repeat


async def test_a_key_that_looks_like_a_contents_digest_is_not_one(bench):
    digest = new_job(content="a post").request.digest()
    await bench.accept(content="a post")
    assert not (await bench.accept(key=digest, content="another post")).repeat


@pytest.mark.parametrize("key", [{"key": "k"}, {}])
async def test_sixteen_at_once_make_one_job(bench, key):
    accepted = await asyncio.gather(*(bench.accept(content="a post", **key) for _ in range(16)))
    assert len({one.job.id for one in accepted}) == 1
    assert sorted(one.repeat for one in accepted) == [False] + [True] * 15
    assert len(await bench.ledger.jobs(100)) == 1


async def test_a_conflict_does_not_undo_those_accepted_beside_it(bench):
    await bench.accept(key="k", content="a post")
    wishes = [bench.accept(key="k", content="x") if n % 2 else bench.accept(key=f"k{n}") for n in range(20)]
    answers = await asyncio.gather(*wishes, return_exceptions=True)
    assert sum(isinstance(one, KeyConflictError) for one in answers) == 10
    assert len(await bench.ledger.jobs(100)) == 11


# -- freezing ----------------------------------------------------------------------------------------------


async def test_freezing_starts_the_job_and_survives_a_kill(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [[1, 3], [5, 9]], planned=False)
    await bench.reopen()
    job = await bench.look(no)
    assert (job.state, job.planned_through, job.started_at) == (JobState.RUNNING, 9, bench.clock.now())
    assert (job.books.recipients, job.books.planned) == (4, False)
    await bench.ledger.add_slices(no, [[10]], planned=True)
    job = await bench.look(no)
    assert (job.planned_through, job.books.recipients, job.books.planned) == (10, 5, True)
    assert [lease.ids for lease in await bench.lease(no, 9)] == [(1, 3), (5, 9), (10,)]


@pytest.mark.parametrize("again", [[9], [8], [1, 20]])
async def test_nobody_is_frozen_twice(bench, again):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [[1, 9]], planned=False)
    with pytest.raises(AlreadyFrozenError):
        await bench.ledger.add_slices(no, [again], planned=False)
    assert (await bench.books(no)).recipients == 2


@pytest.mark.parametrize("again", [[], [[20]]])
async def test_a_second_planning_is_refused(bench, again):
    no = await bench.job([1, 2])
    with pytest.raises(AlreadyFrozenError):
        await bench.ledger.add_slices(no, again, planned=True)


async def test_planning_may_end_with_nobody_more(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [[1, 2]], planned=False)
    await bench.ledger.add_slices(no, [], planned=True)
    assert (await bench.look(no)).planned_through == 2
    assert (await bench.books(no)).planned


async def test_a_held_job_stays_held_while_it_is_frozen(bench):
    no = (await bench.accept()).job.no
    assert await bench.ledger.move(no, JobState.HELD, "quota")
    await bench.ledger.add_slices(no, [[1]], planned=True)
    assert (await bench.look(no)).state is JobState.HELD


async def test_hundreds_of_slices_in_one_commit(bench):
    cut = [range(at, at + 10**9, 10**8) for at in range(0, 250 * 10**9, 10**9)]
    no = await bench.job(*cut)
    leases = [lease for _ in range(5) for lease in await bench.lease(no, 50)]
    assert [lease.slice_no for lease in leases] == list(range(1, 251))
    assert [list(lease.ids) for lease in leases] == [list(ids) for ids in cut]


async def test_ids_of_every_size(bench):
    ids = [-5, 0, 7, 2**31, 2**53 + 1, 2**62]
    no = await bench.job(ids)
    lease = await bench.one(no)
    assert lease.ids == lease.unasked == tuple(ids)
    await bench.mark(lease, ids[-1])
    await bench.end(no, *ids)
    assert (await bench.settle(lease)).done
    assert set(bench.outcomes(no)) == set(ids)


# -- leasing -----------------------------------------------------------------------------------------------


async def test_lowest_slices_first_and_no_more_than_the_share(bench):
    a, b = await bench.job([1], [2], [3]), await bench.job([1], [2], [3])
    now = bench.clock.now()
    assert await bench.ledger.open_slices(now) == {a: 3, b: 3}
    leases = await bench.ledger.lease({a: 2, b: 1}, now, now + timedelta(seconds=LEASE_S))
    assert [(one.job_no, one.ids) for one in leases] == [(a, (1,)), (a, (2,)), (b, (1,))]
    assert len({one.token for one in leases}) == 3
    assert await bench.ledger.open_slices(now) == {a: 1, b: 2}
    assert [one.ids for one in await bench.lease(a, 5)] == [(3,)]
    assert await bench.lease(a, 5) == []


async def test_a_slice_is_leased_when_it_is_due(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.put_off(lease, 1, in_s=30)
    settled = await bench.settle(lease)
    assert not settled.done
    due_at = bench.clock.now() + timedelta(seconds=30)
    assert settled.due_at == due_at
    assert await bench.ledger.next_due_at() == due_at
    assert await bench.ledger.next_due_at(no) == due_at
    assert await bench.ledger.next_due_at(no + 1) is None
    bench.clock.advance(29.9)
    assert await bench.lease(no) == []
    assert await bench.ledger.open_slices(bench.clock.now()) == {}
    bench.clock.advance(0.1)
    assert await bench.ledger.open_slices(bench.clock.now()) == {no: 1}
    assert (await bench.one(no)).ids == (1,)


async def test_nothing_is_due_when_nothing_is_open(bench):
    assert await bench.ledger.next_due_at() is None
    await bench.lease(await bench.job([1]))
    assert await bench.ledger.next_due_at() is None


async def test_a_lease_knows_who_is_left(bench):
    no = await bench.job([1, 2, 3, 4, 5])
    lease = await bench.one(no)
    await bench.mark(lease, 3)
    await bench.end(no, 1)
    await bench.end(no, 5, outcome=Outcome.SKIPPED)
    await bench.record(deferrals=[bench.put_off_row(lease, 2, in_s=2, tries=1), bench.put_off_row(lease, 3)])
    settled = await bench.settle(lease)
    assert not settled.done
    again = await bench.one(no)
    assert again.ids == (1, 2, 3, 4, 5)
    assert again.unasked == (4,)
    assert [one.recipient_id for one in again.deferrals] == [3, 2]  # the first due first
    assert again.deferrals[1] == Deferral(2, bench.clock.now() + timedelta(seconds=2), tries=1)
    assert (await bench.books(no)).in_doubt == 0


# -- the fence ---------------------------------------------------------------------------------------------


async def test_a_mark_under_a_valid_lease_is_granted(bench):
    no = await bench.job([1, 2], [3, 4])
    a, b = await bench.lease(no, 2)
    assert await bench.record(marks=[SliceMark(a, 1), SliceMark(b, 4), SliceMark(a, 2)]) == frozenset()
    assert bench.home.rows("SELECT mark FROM slices ORDER BY no") == [(2,), (4,)]


async def test_a_lease_that_ran_out_is_granted_no_mark(bench):
    no = await bench.job([1, 2, 3])
    lease = await bench.one(no)
    assert await bench.mark(lease, 1)
    bench.clock.advance(LEASE_S)
    assert not await bench.mark(lease, 3)
    assert bench.home.rows("SELECT mark FROM slices") == [(1,)]


async def test_a_lease_that_was_settled_or_leased_anew_is_granted_no_mark(bench):
    no = await bench.job([1, 2, 3])
    old = await bench.one(no)
    await bench.settle(old)
    assert not await bench.mark(old, 1)
    new = await bench.one(no)
    assert not await bench.mark(old, 1)
    assert await bench.record(marks=[SliceMark(old, 2), SliceMark(new, 1)]) == {old.token}
    assert bench.home.rows("SELECT mark FROM slices") == [(1,)]


async def test_an_invalid_lease_arms_nobody(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    await bench.end(no, 2)
    await bench.put_off(lease, 1)
    bench.clock.advance(LEASE_S)
    assert not await bench.mark(lease, None, armed=[1])
    opening = await bench.reopen()
    assert (opening.reopened, opening.in_doubt) == (1, 0)


async def test_renewing_extends_what_has_not_run_out(bench):
    no = await bench.job([1], [2])
    (early,) = await bench.lease(no)
    bench.clock.advance(LEASE_S / 2)
    (late,) = await bench.lease(no)
    bench.clock.advance(LEASE_S / 2)
    now = bench.clock.now()
    await bench.ledger.renew(now, now + timedelta(seconds=LEASE_S))
    bench.clock.advance(LEASE_S - 1)
    assert not await bench.mark(early, 1)
    assert await bench.mark(late, 2)


async def test_recovering_takes_back_what_ran_out_and_nobody_works_on(bench):
    no = await bench.job([1, 2], [3, 4], [5, 6])
    lost, worked_on = await bench.lease(no, 2)
    (fresh,) = await bench.lease(no, for_s=10 * LEASE_S)
    await bench.mark(lost, 1)
    bench.clock.advance(LEASE_S)
    assert await bench.ledger.recover({worked_on.token}, bench.clock.now()) == 1
    assert await bench.ledger.open_slices(bench.clock.now()) == {no: 1}
    assert (await bench.books(no)).in_doubt == 1
    assert await bench.mark(fresh, 5)
    (again,) = await bench.lease(no)
    assert (again.slice_no, again.unasked) == (lost.slice_no, (2,))
    assert [(one.recipient_id, one.doubts) for one in again.deferrals] == [(1, 1)]


# -- outcomes and books ------------------------------------------------------------------------------------


async def test_books_are_a_count_over_the_outcomes(bench):
    no = await bench.job(list(range(1, 12)))
    await bench.end(no, 1, 2, 3)
    await bench.end(no, 4, 5, channel="template")
    await bench.end(no, 6, 7, outcome=Outcome.REJECTED, errcode=40003)
    await bench.end(no, 8, outcome=Outcome.FAILED, errcode=-1)
    await bench.end(no, 9, outcome=Outcome.UNKNOWN)
    await bench.end(no, 10, outcome=Outcome.SKIPPED, channel="")
    for _ in range(2):
        books = await bench.books(no)
        assert books.outcomes == Counter(Outcome(one) for one in bench.outcomes(no).values())
        assert books.outcomes == {"sent": 5, "rejected": 2, "failed": 1, "unknown": 1, "skipped": 1}
        assert books.sent_by_channel == {"custom": 3, "template": 2}
        assert books.errcodes == {40003: 2, -1: 1}
        assert (books.recipients, books.ended, books.balanced) == (11, 10, False)
        await bench.reopen()
    await bench.end(no, 11)
    assert (await bench.books(no)).balanced


async def test_a_recipients_first_outcome_stays(bench):
    no = await bench.job([1, 2, 3])
    await bench.end(no, 1)
    await bench.end(no, 1, outcome=Outcome.REJECTED, errcode=40003)
    await bench.end(no, 1, 2, outcome=Outcome.FAILED)
    await bench.record(outcomes=[bench.row(no, 3), bench.row(no, 3, outcome=Outcome.UNKNOWN)])
    assert bench.outcomes(no) == {1: "sent", 2: "failed", 3: "sent"}
    books = await bench.books(no)
    assert books.outcomes == {Outcome.SENT: 2, Outcome.FAILED: 1}
    assert books.errcodes == {}
    assert books.balanced


async def test_the_same_id_in_two_jobs_are_two_recipients(bench):
    a, b = await bench.job([1]), await bench.job([1])
    await bench.record(outcomes=[bench.row(a, 1), bench.row(b, 1, outcome=Outcome.REJECTED)])
    assert (await bench.books(a)).outcomes == {Outcome.SENT: 1}
    assert (await bench.books(b)).outcomes == {Outcome.REJECTED: 1}


async def test_first_and_last_sent(bench):
    no = await bench.job([1, 2, 3, 4])
    await bench.end(no, 1, outcome=Outcome.REJECTED)
    assert (await bench.look(no)).first_sent_at is None
    bench.clock.advance(1)
    first = bench.clock.now()
    await bench.end(no, 2)
    bench.clock.advance(1)
    last = bench.clock.now()
    await bench.end(no, 3)
    bench.clock.advance(1)
    await bench.end(no, 4, outcome=Outcome.UNKNOWN)
    job = await bench.look(no)
    assert (job.first_sent_at, job.last_sent_at) == (first, last)


async def test_outcomes_are_facts_whoever_holds_the_lease(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    bench.clock.advance(LEASE_S)
    batch = {"marks": [SliceMark(lease, 2)], "outcomes": [bench.row(no, 1)]}
    assert await bench.record(**batch) == {lease.token}
    assert bench.outcomes(no) == {1: "sent"}


async def test_who_ended_after_the_slice_was_taken_back_is_not_asked_again(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    bench.clock.advance(LEASE_S)
    await bench.ledger.recover((), bench.clock.now())
    # The former holder's call came back late; it did not know of the deferral.
    await bench.end(no, 1)
    again = await bench.one(no)
    assert again.unasked == ()
    assert [one.recipient_id for one in again.deferrals] == [2]


async def test_who_ended_and_is_put_off_late_is_not_asked_again(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.end(no, 1)
    await bench.put_off(lease, 1)
    await bench.settle(lease)
    again = await bench.one(no)
    assert (again.unasked, again.deferrals) == ((2,), ())


# -- deferrals ---------------------------------------------------------------------------------------------


async def test_a_second_deferral_replaces_the_first(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.put_off(lease, 1, in_s=5, channel_no=1, tries=1, doubts=1)
    await bench.put_off(lease, 1, in_s=1, channel_no=0, tries=2, doubts=0)
    await bench.settle(lease)
    bench.clock.advance(1)
    (only,) = (await bench.one(no)).deferrals
    assert only == Deferral(1, bench.clock.now(), channel_no=0, tries=2, doubts=0)


async def test_an_outcome_removes_the_deferral(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    await bench.record(deferrals=[bench.put_off_row(lease, 1), bench.put_off_row(lease, 2)])
    await bench.end(no, 1, was_deferred=True)
    await bench.settle(lease)
    assert [one.recipient_id for one in (await bench.one(no)).deferrals] == [2]
    assert bench.home.rows("SELECT recipient_id FROM deferrals") == [(2,)]


async def test_being_put_off_in_doubt_counts_in_the_books(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    await bench.put_off(lease, 1, in_doubt=True, doubts=1)
    await bench.put_off(lease, 2)
    assert (await bench.books(no)).in_doubt == 1
    await bench.settle(lease)
    assert (await bench.books(no)).in_doubt == 1


async def test_who_was_armed_and_put_off_again_is_not_in_doubt(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.put_off(lease, 1)
    assert await bench.mark(lease, None, armed=[1])
    await bench.put_off(lease, 1, tries=1)
    assert (await bench.reopen()).in_doubt == 0


# -- split -------------------------------------------------------------------------------------------------


async def split_off(bench, lease, keep, give):
    now = bench.clock.now()
    return await bench.ledger.split([Split(lease, keep, give)], now, now + timedelta(seconds=LEASE_S))


async def test_who_is_put_off_stays_so_when_all_of_a_slice_within_its_bounds_have_ended(bench):
    no = await bench.job([1, 2, 3, 4])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    (given,) = await split_off(bench, lease, (1, 4), (2, 3))
    await bench.mark(given, 3)
    await bench.end(no, 2, 3)
    await bench.settle(given)
    await bench.mark(lease, 4)
    await bench.put_off(lease, 1, tries=1)
    await bench.put_off(lease, 4, tries=2)
    assert not (await bench.settle(lease)).done
    again = await bench.one(no)
    assert [(one.recipient_id, one.tries) for one in again.deferrals] == [(1, 1), (4, 2)]


async def test_a_split_makes_two_slices_of_one(bench):
    no = await bench.job([1, 2, 3, 4], [5, 6])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    (given,) = await split_off(bench, lease, (1, 2), (3, 4))
    assert (given.job_no, given.ids, given.unasked, given.deferrals) == (no, (3, 4), (3, 4), ())
    assert given.token != lease.token
    assert await bench.mark(given, 3)
    assert await bench.mark(lease, 2)
    await bench.end(no, 1, 2, 3)
    assert (await bench.settle(lease)).done
    assert not (await bench.settle(given)).done
    assert (await bench.books(no)).recipients == 6
    ids = [one for lease in await bench.lease(no, 9) for one in lease.ids]
    assert sorted(ids) == [3, 4, 5, 6]


async def test_a_split_survives_a_kill(bench):
    no = await bench.job([1, 2, 3, 4])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    (given,) = await split_off(bench, lease, (1, 2), (3, 4))
    await bench.mark(given, 3)
    opening = await bench.reopen()
    assert (opening.reopened, opening.in_doubt) == (2, 2)
    a, b = await bench.lease(no, 9)
    assert [(one.ids, one.unasked) for one in (a, b)] == [((1, 2), (2,)), ((3, 4), (4,))]


async def test_without_the_lease_nothing_is_split(bench):
    no = await bench.job([1, 2, 3, 4])
    lease = await bench.one(no)
    bench.clock.advance(LEASE_S)
    assert await split_off(bench, lease, (1, 2), (3, 4)) == [None]
    await bench.settle(lease)
    assert await split_off(bench, lease, (1, 2), (3, 4)) == [None]
    assert [one.ids for one in await bench.lease(no, 9)] == [(1, 2, 3, 4)]


# -- settle ------------------------------------------------------------------------------------------------


async def test_a_slice_is_done_when_each_of_its_ids_has_an_outcome(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    await bench.end(no, 1, 2)
    settled = await bench.settle(lease)
    assert (settled.done, settled.due_at) == (True, None)
    assert await bench.lease(no) == []


async def test_a_slice_with_somebody_unasked_is_due_at_once(bench):
    no = await bench.job([1, 2, 3])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.put_off(lease, 1, in_s=30)
    assert not (await bench.settle(lease)).done
    again = await bench.one(no)
    assert again.unasked == (2, 3)


async def test_a_slice_with_nobody_unasked_is_due_with_the_earliest_deferral(bench):
    no = await bench.job([1, 2, 3])
    lease = await bench.one(no)
    await bench.mark(lease, 3)
    await bench.end(no, 3)
    await bench.record(deferrals=[bench.put_off_row(lease, 1, in_s=30), bench.put_off_row(lease, 2, in_s=20)])
    assert (await bench.settle(lease)).due_at == bench.clock.now() + timedelta(seconds=20)


async def test_who_was_let_through_and_is_not_accounted_for_is_in_doubt_at_settling(bench):
    no = await bench.job([1, 2, 3, 4])
    lease = await bench.one(no)
    await bench.mark(lease, 3)
    await bench.end(no, 1)
    await bench.put_off(lease, 2, in_s=30)
    assert not (await bench.settle(lease)).done
    assert (await bench.books(no)).in_doubt == 1
    again = await bench.one(no)
    assert [(one.recipient_id, one.doubts) for one in again.deferrals] == [(3, 1), (2, 0)]
    assert again.unasked == (4,)


async def test_settling_twice_changes_nothing(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.settle(lease)
    again = await bench.one(no)
    assert not (await bench.settle(lease)).done
    assert await bench.mark(again, 2)
    assert (await bench.books(no)).in_doubt == 1


# -- a kill ------------------------------------------------------------------------------------------------


async def half_way(bench, on_unknown):
    """1 ended, 2 put off, 3 asked without an outcome, 4 put off and armed, 5 unasked; 6 in another slice."""
    no = await bench.job([1, 2, 3, 4, 5], [6], on_unknown=on_unknown)
    lease = await bench.one(no)
    await bench.mark(lease, 4)
    await bench.end(no, 1)
    await bench.record(
        deferrals=[bench.put_off_row(lease, 2, in_s=9, tries=1), bench.put_off_row(lease, 4, tries=3)]
    )
    assert await bench.mark(lease, None, armed=[4])
    return no


async def test_after_a_kill_in_doubt_is_exactly_who_may_have_been_asked(bench):
    no = await half_way(bench, OnUnknown.RESEND)
    opening = await bench.reopen()
    assert (opening.reopened, opening.in_doubt) == (1, 2)
    assert (await bench.books(no)).in_doubt == 2
    lease, other = await bench.lease(no, 9)
    assert (lease.unasked, other.unasked) == ((5,), (6,))
    assert {one.recipient_id: one.doubts for one in lease.deferrals} == {2: 0, 3: 1, 4: 1}
    assert all(one.due_at <= bench.clock.now() for one in lease.deferrals if one.recipient_id != 2)


async def test_who_is_in_doubt_goes_on_where_they_were(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.put_off(lease, 1, channel_no=1, tries=3, refusals=7)
    await bench.mark(lease, None, armed=[1])
    await bench.reopen()
    (only,) = (await bench.one(no)).deferrals
    assert (only.channel_no, only.tries, only.doubts, only.refusals) == (1, 3, 1, 7)


async def test_under_leave_they_become_unknown(bench):
    no = await half_way(bench, OnUnknown.LEAVE)
    opening = await bench.reopen()
    assert opening.in_doubt == 2
    assert bench.outcomes(no) == {1: "sent", 3: "unknown", 4: "unknown"}
    books = await bench.books(no)
    assert (books.in_doubt, books.outcomes) == (2, {Outcome.SENT: 1, Outcome.UNKNOWN: 2})
    lease = await bench.one(no)
    assert lease.unasked == (5,)
    assert [one.recipient_id for one in lease.deferrals] == [2]


async def test_doubts_add_up_over_several_kills(bench):
    no = await bench.job([1, 2, 3])
    for kills in range(1, 4):
        lease = await bench.one(no)
        armed = [one.recipient_id for one in lease.deferrals]
        assert await bench.mark(lease, kills if kills in lease.unasked else None, armed=armed)
        assert (await bench.reopen()).in_doubt == kills
        assert (await bench.books(no)).in_doubt == kills * (kills + 1) // 2
    deferrals = (await bench.one(no)).deferrals
    assert {one.recipient_id: one.doubts for one in deferrals} == {1: 3, 2: 2, 3: 1}


async def test_a_kill_before_anybody_was_asked_leaves_nobody_in_doubt(bench):
    no = await bench.job([1, 2], [3])
    await bench.lease(no, 2)
    opening = await bench.reopen()
    assert (opening.reopened, opening.in_doubt) == (2, 0)
    assert [one.unasked for one in await bench.lease(no, 2)] == [(1, 2), (3,)]


async def test_a_kill_twice_in_a_row_counts_nobody_twice(bench):
    no = await half_way(bench, OnUnknown.RESEND)
    await bench.reopen()
    opening = await bench.reopen()
    assert (opening.reopened, opening.in_doubt) == (0, 0)
    assert (await bench.books(no)).in_doubt == 2


async def test_a_lease_of_the_former_start_is_worth_nothing(bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    before = bench.home.opening.owner
    await bench.reopen()
    assert bench.home.opening.owner != before
    assert not await bench.mark(lease, 2)


async def test_a_slice_with_everybody_ended_is_done_after_a_kill(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await bench.end(no, 1)
    await bench.reopen()
    assert await bench.lease(no) == []
    assert (await bench.ledger.finish(no, bench.clock.now())).state is JobState.DONE


# -- hold, resume, finish, lists ---------------------------------------------------------------------------


async def test_hold_and_resume(bench):
    no = await bench.job([1])
    assert not await bench.ledger.resume(no)
    assert await bench.ledger.move(no, JobState.HELD, "the daily quota is used up")
    assert not await bench.ledger.move(no, JobState.HELD, "another reason")
    await bench.reopen()
    job = await bench.look(no)
    assert (job.state, job.reason) == (JobState.HELD, "the daily quota is used up")
    assert await bench.ledger.resume(no)
    assert not await bench.ledger.resume(no)
    job = await bench.look(no)
    assert (job.state, job.reason) == (JobState.RUNNING, "")


async def test_a_job_that_waits_to_start_is_not_resumed(bench):
    no = (await bench.accept()).job.no
    assert not await bench.ledger.resume(no)
    assert (await bench.look(no)).state is JobState.ACCEPTED


async def test_a_job_that_ended_is_neither_held_nor_resumed(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.end(no, 1)
    await bench.settle(lease)
    assert await bench.ledger.finish(no, bench.clock.now())
    assert not await bench.ledger.move(no, JobState.HELD, "too late")
    assert not await bench.ledger.resume(no)
    assert (await bench.look(no)).state is JobState.DONE


async def test_a_job_that_froze_nobody_reads_its_audience_anew_when_resumed(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [], planned=True)
    assert await bench.ledger.resume(no)
    assert not (await bench.books(no)).planned
    await bench.ledger.add_slices(no, [[1]], planned=True)
    assert (await bench.books(no)).recipients == 1


async def test_a_job_that_froze_nobody_is_held_in_the_same_commit_and_never_done(bench):
    # A kill after the end of planning must not make an empty audience a success.
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [], planned=True)
    await bench.reopen()
    job = await bench.look(no)
    assert (job.state, job.reason) == (JobState.HELD, "the audience query yields nobody")
    assert await bench.ledger.finish(no, bench.clock.now()) is None


async def test_a_page_beyond_the_end_is_done_at_once(bench):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [], planned=True, may_be_empty=True)
    job = await bench.look(no)
    assert job.state is JobState.DONE
    assert job.finished_at is not None
    assert job.books.recipients == 0


async def test_finish_only_when_the_books_balance(bench):
    no = (await bench.accept()).job.no
    now = bench.clock.now()
    assert await bench.ledger.finish(no, now) is None
    await bench.ledger.add_slices(no, [[1, 2]], planned=False)
    lease = await bench.one(no)
    await bench.end(no, 1)
    assert await bench.ledger.finish(no, now) is None
    await bench.end(no, 2)
    await bench.settle(lease)
    assert await bench.ledger.finish(no, now) is None  # not planned to the end
    await bench.ledger.add_slices(no, [], planned=True)
    await bench.ledger.move(no, JobState.HELD, "wait")
    assert await bench.ledger.finish(no, now) is None  # held
    await bench.ledger.resume(no)
    bench.clock.advance(5)
    done = await bench.ledger.finish(no, bench.clock.now())
    assert (done.state, done.finished_at, done.books.balanced) == (JobState.DONE, bench.clock.now(), True)
    assert await bench.ledger.finish(no, bench.clock.now()) is None
    await bench.reopen()
    assert await bench.ledger.job(done.id) == done


async def test_a_job_whose_last_slice_is_still_leased_is_not_done(bench):
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.end(no, 1)
    assert await bench.ledger.finish(no, bench.clock.now()) is None
    await bench.settle(lease)
    assert await bench.ledger.finish(no, bench.clock.now()) is not None


async def test_lists_of_jobs(bench):
    numbers = [await bench.job([1]) for _ in range(4)]
    lease = await bench.one(numbers[1])
    await bench.end(numbers[1], 1)
    await bench.settle(lease)
    await bench.ledger.finish(numbers[1], bench.clock.now())
    await bench.ledger.move(numbers[2], JobState.HELD, "wait")
    assert [job.id for job in await bench.ledger.jobs(3)] == ["j4", "j3", "j2"]
    assert [job.id for job in await bench.ledger.jobs(9, only_open=True)] == ["j1", "j3", "j4"]
    assert [job.id for job in await bench.ledger.jobs(1, only_open=True)] == ["j1"]
    assert [job.books.ended for job in await bench.ledger.jobs(3)] == [0, 0, 1]


async def test_a_job_that_is_not_there(bench):
    assert await bench.ledger.job("j-none") is None


# -- SQLite only -------------------------------------------------------------------------------------------


async def refusal(path, clock=None):
    with pytest.raises((LedgerUnavailableError, LedgerInUseError, LedgerVersionError)) as refused:
        async with SqliteLedger(path, clock or FakeClock(), guard(path)):
            pass
    return refused.value


@only_sqlite
async def test_a_second_ledger_on_the_same_file_is_refused_and_names_the_holder(home):
    error = await refusal(home.path)
    assert isinstance(error, LedgerInUseError)
    assert f"pid {os.getpid()}" in str(error)
    assert str(home.path) in str(error)
    assert await home.ledger.jobs(1) == []  # the first one is not disturbed
    await home.kill()
    await home.open()


@only_sqlite
async def test_a_file_of_a_newer_version_is_refused_and_left_alone(home):
    await home.kill()
    with closing(sqlite3.connect(home.path)) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.commit()
    error = await refusal(home.path)
    assert isinstance(error, LedgerVersionError)
    assert "has version 9999" in str(error)
    assert home.rows("SELECT version_num FROM alembic_version") == [("9999",)]
    assert isinstance(await refusal(home.path), LedgerVersionError)  # the lock was let go of


@only_sqlite
async def test_places_where_no_ledger_can_be(tmp_path):
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("this is no database, only a text that somebody left here\n" * 50)
    for path in (tmp_path / "missing" / "ledger.db", tmp_path / "folder.db", tmp_path / "text.db"):
        error = await refusal(path)
        assert isinstance(error, LedgerUnavailableError), path
        assert str(path) in str(error)


@only_sqlite
async def test_a_ledger_file_is_its_owners_only(home):
    assert home.path.stat().st_mode & 0o777 == 0o600


@only_sqlite
async def test_a_disk_that_is_full_is_an_error_and_nothing_of_the_change_stands(home, bench):
    no = await bench.job([1, 2])
    lease = await bench.one(no)
    (pages,) = home.rows("PRAGMA page_count")[0]
    # SQLite's own limit stands for the disk's: the same error code, on the writer's own connection.
    limit = await bench.ledger._writer.run(
        lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar_one()
    )
    assert limit == pages
    with pytest.raises(LedgerUnavailableError, match="full"):
        await bench.accept(content="x" * 500_000)
    assert len(await bench.ledger.jobs(9)) == 1
    assert await bench.mark(lease, 1)


async def test_jobs_of_one_account(bench):
    for name, account in (("j1", "a"), ("j2", "b"), ("j3", "a")):
        await bench.accept(id=name, content=name, account=account)
    assert [job.id for job in await bench.ledger.jobs(9, account="a")] == ["j3", "j1"]
    assert [job.id for job in await bench.ledger.jobs(1, only_open=True, account="b")] == ["j2"]
    assert await bench.ledger.jobs(9, account="c") == []
