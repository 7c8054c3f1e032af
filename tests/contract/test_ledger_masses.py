"""The port `MassLedger`: gathered recipients, chunks whose list never changes, and what becomes of them."""
# ruff: noqa: F811 - fixtures

from datetime import timedelta

import pytest
from test_ledger_contract import bench, home  # noqa: F401

from broadcastd.batch import Batch, GatheredRow
from broadcastd.delivery.report import chunk_facts
from broadcastd.mass_ports import ChunkEnd
from broadcastd.model import WITH_ITS_CHUNK
from broadcastd.outcomes import Outcome
from broadcastd.pushes import MassFinished, NewPush, PushKind, TextMessage
from broadcastd.states import ChunkState, JobState

SENT = ChunkEnd(Outcome.SENT, "mass", 0, 3147483685)


@pytest.fixture
def masses(bench):
    return Masses(bench)


class Masses:
    """Short words for what the tests do to a ledger."""

    def __init__(self, bench):
        self.bench = bench

    @property
    def ledger(self):
        return self.bench.ledger

    @property
    def now(self):
        return self.bench.clock.now()

    async def gather(self, lease, *ids, channel_no=1, **about):
        """As a slice run does, under the mark."""
        rows = [self.bench.put_off_row(lease, one, channel_no=channel_no, **about) for one in ids]
        rows = [type(row)(row.job_no, row.slice_no, _far(row.deferral)) for row in rows]
        gathered = [GatheredRow(lease.job_no, one, f"o{one}") for one in ids]
        await self.ledger.record(Batch(deferrals=rows, gathered=gathered), self.now)

    async def job(self, *slices, **about):
        """A job of which everybody is gathered; its number."""
        no = await self.bench.job(*slices, **about)
        for lease in await self.bench.lease(no, len(slices)):
            await self.bench.mark(lease, lease.ids[-1])
            await self.gather(lease, *lease.ids)
            assert not (await self.bench.settle(lease)).done
        return no

    async def chunk(self, no, ids, gone=()):
        return await self.ledger.make_chunk(no, ids, gone, self.now)

    async def asked(self, no, ids):
        chunk = await self.chunk(no, ids)
        assert await self.ledger.ask_chunk(no, chunk.no, self.now) == [(one, f"o{one}") for one in ids]
        return chunk

    async def states(self, no):
        return [(one.no, one.state, one.size) for one in await self.ledger.mass_chunks(no)]

    async def settle_all(self, no):
        """What the tasks do with the slices that are due."""
        for lease in await self.bench.lease(no, 100):
            assert lease.unasked == ()
            assert lease.deferrals == ()
            await self.bench.settle(lease)


def _far(deferral):
    return type(deferral)(
        deferral.recipient_id, WITH_ITS_CHUNK, deferral.channel_no, deferral.tries, deferral.doubts
    )


async def test_who_is_gathered_is_leased_to_nobody_and_is_not_in_doubt_after_a_kill(bench, masses):
    no = await masses.job([1, 2, 3])
    for _ in range(2):
        assert await bench.ledger.open_slices(bench.clock.now()) == {}
        stand = await masses.ledger.mass_stand(no)
        assert (stand.chunks, stand.waiting, stand.others_left) == ([], 3, False)
        assert await masses.ledger.gathered(no, 2) == [(1, "o1"), (2, "o2")]
        opening = await bench.reopen()
        assert opening.in_doubt == 0


async def test_others_are_left_while_somebody_may_still_be_gathered(bench, masses):
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [[1, 2], [3]], planned=False)
    first, second = await bench.lease(no, 2)
    await bench.mark(first, 2)
    await masses.gather(first, 1, 2)
    await bench.settle(first)
    assert (await masses.ledger.mass_stand(no)).others_left
    await bench.ledger.add_slices(no, [], planned=True)
    assert (await masses.ledger.mass_stand(no)).others_left  # one is leased
    await bench.mark(second, 3)
    await bench.put_off(second, 3, in_s=60)
    await bench.settle(second)
    assert (await masses.ledger.mass_stand(no)).others_left  # and then due in a minute
    bench.clock.advance(61)
    lease = await bench.one(no)
    assert [one.recipient_id for one in lease.deferrals] == [3]
    await bench.end(no, 3, was_deferred=True)
    await bench.settle(lease)
    assert not (await masses.ledger.mass_stand(no)).others_left


async def test_a_chunk_keeps_its_list_and_clientmsgid_whatever_comes_after(bench, masses):
    no = await masses.job([1, 2, 3], [4, 5])
    chunk = await masses.chunk(no, [1, 2, 3])
    assert (chunk.no, chunk.state, chunk.size, chunk.tries) == (1, ChunkState.MADE, 3, 0)
    assert len(chunk.clientmsgid) <= 32
    assert chunk.clientmsgid.isascii()
    assert (await masses.chunk(no, [3, 4, 5])).size == 2  # 3 has a chunk
    await bench.reopen()
    listed = await masses.ledger.ask_chunk(no, 1, masses.now)
    assert listed == [(1, "o1"), (2, "o2"), (3, "o3")]
    await bench.reopen()
    (first, _) = (await masses.ledger.mass_stand(no)).chunks
    assert (first.clientmsgid, first.state, first.tries) == (chunk.clientmsgid, ChunkState.ASKED, 1)
    assert await masses.ledger.ask_chunk(no, 1, masses.now) == listed
    assert await masses.ledger.chunk_members(no, 1) == listed


async def test_a_chunk_that_is_asked_again_is_counted_in_doubt_once(bench, masses):
    no = await masses.job([1, 2, 3])
    await masses.asked(no, [1, 2, 3])
    assert (await bench.books(no)).in_doubt == 0
    await bench.reopen()
    for _ in range(3):
        assert len(await masses.ledger.ask_chunk(no, 1, masses.now)) == 3
        assert (await bench.books(no)).in_doubt == 3


async def test_a_call_that_was_certainly_not_taken_leaves_nobody_in_doubt(bench, masses):
    no = await masses.job([1, 2])
    await masses.asked(no, [1, 2])
    await masses.ledger.chunk_not_sent(no, 1, -1)
    (chunk,) = (await masses.ledger.mass_stand(no)).chunks
    assert (chunk.state, chunk.first_asked_at, chunk.errcode) == (ChunkState.MADE, None, -1)
    await masses.ledger.ask_chunk(no, 1, masses.now)
    assert (await bench.books(no)).in_doubt == 0
    # What an earlier call may have done is not undone by a later one.
    await masses.ledger.ask_chunk(no, 1, masses.now)
    await masses.ledger.chunk_not_sent(no, 1, -1)
    (chunk,) = (await masses.ledger.mass_stand(no)).chunks
    assert chunk.state is ChunkState.ASKED


@pytest.mark.parametrize("outcome", [Outcome.SENT, Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED])
async def test_the_end_of_a_chunk_is_that_of_all_its_members_and_the_books_balance(bench, masses, outcome):
    no = await masses.job([1, 2], [3, 4], [5])
    await masses.asked(no, [1, 2, 3])
    errcode = 0 if outcome in (Outcome.SENT, Outcome.UNKNOWN) else 40031
    end = ChunkEnd(outcome, "mass", errcode, 7 if outcome is Outcome.SENT else None)
    for _ in range(2):  # an answer may be noted twice
        await masses.ledger.end_chunk(no, 1, end, masses.now)
    await masses.settle_all(no)
    assert bench.outcomes(no) == dict.fromkeys([1, 2, 3], outcome.value)
    assert (await masses.ledger.mass_stand(no)).waiting == 2
    await masses.asked(no, [4, 5])
    await masses.ledger.end_chunk(no, 2, SENT, masses.now)
    await masses.settle_all(no)
    job = await bench.ledger.finish(no, masses.now)
    assert job.books.balanced
    assert job.books.in_doubt == (3 if outcome is Outcome.UNKNOWN else 0)
    assert job.books.sent_by_channel["mass"] == (5 if outcome is Outcome.SENT else 2)
    assert bench.home.rows("SELECT * FROM gathered") == []
    assert bench.home.rows("SELECT * FROM deferrals") == []
    first = (await masses.ledger.mass_chunks(no))[0]
    assert (first.msg_id, first.errcode) == (end.msg_id, errcode)
    assert {row[1] for row in bench.home.rows("SELECT recipient_id, openid FROM outcomes")} == {
        f"o{one}" for one in range(1, 6)
    }


async def test_part_of_a_slice_ends_with_a_chunk_and_the_rest_waits_on(bench, masses):
    no = await masses.job([1, 2, 3, 4])
    await masses.asked(no, [1, 2])
    await masses.ledger.end_chunk(no, 1, SENT, masses.now)
    assert (await masses.ledger.mass_stand(no)).others_left
    await masses.settle_all(no)
    stand = await masses.ledger.mass_stand(no)
    assert (stand.waiting, stand.others_left) == (2, False)


async def test_who_is_gone_or_has_opted_out_is_skipped_before_the_list_is_fixed(bench, masses):
    no = await masses.job([1, 2, 3, 4, 5])
    await opt_out(bench, "o4")
    chunk = await masses.chunk(no, [1, 3, 4, 5], gone=[2])
    assert chunk.size == 3
    assert bench.outcomes(no) == {2: "skipped", 4: "skipped"}
    assert await masses.ledger.chunk_members(no, 1) == [(1, "o1"), (3, "o3"), (5, "o5")]


async def test_who_was_in_doubt_before_and_is_gone_is_unknown(bench, masses):
    no = await bench.job([1, 2, 3])
    lease = await bench.one(no)
    await bench.mark(lease, 3)
    await masses.gather(lease, 1, 2)
    await masses.gather(lease, 3, doubts=1)
    await bench.settle(lease)
    await masses.chunk(no, [1, 2], gone=[3])
    assert bench.outcomes(no) == {3: "unknown"}


async def test_of_an_opt_out_before_the_job_the_audience_decides(bench, masses):
    await opt_out(bench, "o2")
    bench.clock.advance(1)
    no = await masses.job([1, 2, 3])
    assert (await masses.chunk(no, [1, 2, 3])).size == 3


async def opt_out(bench, openid):
    text = TextMessage(openid=openid, original_id="gh_x", created_s=1, dedupe_key=openid, content="0")
    push = NewPush("default", text, PushKind.OPT_OUT)
    assert await bench.ledger.take_pushes([push], bench.clock.now()) == [True]


async def test_who_opts_out_before_the_call_is_not_in_it(bench, masses):
    no = await masses.job([1, 2, 3])
    chunk = await masses.chunk(no, [1, 2, 3])
    await opt_out(bench, "o2")
    assert await masses.ledger.ask_chunk(no, 1, masses.now) is None
    again = await masses.chunk(no, [1, 2, 3])
    assert again.clientmsgid != chunk.clientmsgid
    assert await masses.states(no) == [(1, ChunkState.REFUSED, 3), (2, ChunkState.MADE, 2)]
    assert bench.outcomes(no) == {2: "skipped"}


async def test_a_list_that_may_have_been_sent_stays_as_it_is_though_somebody_opts_out(bench, masses):
    no = await masses.job([1, 2, 3])
    await masses.asked(no, [1, 2, 3])
    await opt_out(bench, "o2")
    assert len(await masses.ledger.ask_chunk(no, 1, masses.now)) == 3


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.HELD, JobState.CANCELLING])
async def test_no_chunk_of_a_job_that_stands_is_made_or_asked(bench, masses, state):
    no = await masses.job([1, 2, 3, 4])
    await masses.chunk(no, [1, 2])
    await bench.ledger.move(no, state, "because")
    assert await masses.ledger.ask_chunk(no, 1, masses.now) is None
    assert await masses.chunk(no, [3, 4]) is None


async def test_one_alone_is_no_list(bench, masses):
    no = await masses.job([1])
    assert await masses.chunk(no, [1]) is None
    assert await masses.ledger.end_waiting(no, ChunkEnd(Outcome.REJECTED, "mass", 40130), masses.now) == 1
    await masses.settle_all(no)
    assert (await bench.ledger.finish(no, masses.now)).books.errcodes == {40130: 1}


async def test_a_refused_list_is_halved_down_to_two(bench, masses):
    no = await masses.job([1, 2, 3, 4, 5])
    await masses.asked(no, [1, 2, 3, 4, 5])
    await masses.ledger.halve_chunk(no, 1, 40031, masses.now)
    refused, made = ChunkState.REFUSED, ChunkState.MADE
    assert await masses.states(no) == [(1, refused, 5), (2, made, 3), (3, made, 2)]
    assert (await masses.ledger.mass_chunks(no))[0].errcode == 40031
    await masses.ledger.halve_chunk(no, 2, 40031, masses.now)
    assert await masses.states(no) == [(1, refused, 5), (2, refused, 3), (3, made, 2), (4, made, 2)]
    assert await masses.ledger.gathered(no, 10) == [(3, "o3")]
    assert len({one.clientmsgid for one in await masses.ledger.mass_chunks(no)}) == 4
    assert (await bench.books(no)).in_doubt == 0


async def test_they_go_on_to_the_next_channel_but_for_who_may_have_it(bench, masses):
    no = await masses.job([1, 2, 3, 4, 5, 6])
    await masses.asked(no, [1, 2])
    await masses.chunk(no, [3, 4])
    assert await masses.ledger.pass_on(no, 2, None, masses.now) == 4
    lease = await bench.one(no)
    assert [(one.recipient_id, one.channel_no) for one in lease.deferrals] == [(3, 2), (4, 2), (5, 2), (6, 2)]
    assert await masses.states(no) == [(1, ChunkState.ASKED, 2), (2, ChunkState.REFUSED, 2)]
    await bench.settle(lease)
    assert await masses.ledger.pass_on(no, 2, 1, masses.now) == 2
    assert await masses.states(no) == [(1, ChunkState.REFUSED, 2), (2, ChunkState.REFUSED, 2)]


async def test_of_a_cancelled_job_who_may_have_a_mass_message_is_unknown_and_the_others_are_skipped(
    bench, masses
):
    no = await masses.job([1, 2, 3], [4, 5, 6])
    await masses.asked(no, [1, 4])
    await masses.chunk(no, [2, 5])
    await bench.ledger.move(no, JobState.CANCELLING, "enough")
    assert await bench.ledger.close_slices(no, 1, masses.now) == 1
    assert await bench.ledger.close_slices(no, 9, masses.now) == 0
    job = await bench.ledger.finish(no, masses.now)
    assert bench.outcomes(no) == {1: "unknown", 4: "unknown", **dict.fromkeys([2, 3, 5, 6], "skipped")}
    assert (job.books.in_doubt, job.books.balanced) == (2, True)
    assert await masses.states(no) == [(1, ChunkState.UNKNOWN, 2), (2, ChunkState.REFUSED, 2)]
    # An answer that comes after all is kept with the chunk; outcomes are facts of their time.
    await masses.ledger.end_chunk(no, 1, SENT, masses.now)
    assert (await masses.ledger.mass_chunks(no))[0].msg_id == SENT.msg_id
    assert bench.outcomes(no)[1] == "unknown"
    assert bench.home.rows("SELECT * FROM gathered") == []


async def test_a_chunk_in_doubt_is_not_counted_twice_when_its_job_is_cancelled(bench, masses):
    no = await masses.job([1, 2])
    await masses.asked(no, [1, 2])
    await masses.ledger.ask_chunk(no, 1, masses.now)
    await bench.ledger.move(no, JobState.CANCELLING, "enough")
    await bench.ledger.close_slices(no, 9, masses.now)
    assert (await bench.books(no)).in_doubt == 2


async def test_who_has_an_outcome_that_came_late_is_in_no_list(bench, masses):
    no = await masses.job([1, 2, 3])
    await bench.end(no, 2)  # under a lease that was lost
    chunk = await masses.chunk(no, [1, 2, 3])
    assert await masses.ledger.chunk_members(no, chunk.no) == [(1, "o1"), (3, "o3")]


async def test_who_is_gathered_once_more_stays_in_their_chunk(bench, masses):
    no = await bench.job([1, 2, 3])
    lease = await bench.one(no)
    await bench.mark(lease, 3)
    await masses.gather(lease, 1, 2, 3)
    await bench.settle(lease)
    await masses.asked(no, [1, 2])
    await masses.gather(lease, 1, 2)
    assert await masses.ledger.gathered(no, 9) == [(3, "o3")]


async def test_a_retry_gathers_anew_under_another_clientmsgid(bench, masses):
    no = await masses.job([1, 2])
    first = await masses.asked(no, [1, 2])
    await masses.ledger.end_chunk(no, 1, ChunkEnd(Outcome.FAILED, "mass", -1), masses.now)
    await masses.settle_all(no)
    await bench.ledger.finish(no, masses.now)
    assert await bench.ledger.retry(no, 2, [Outcome.FAILED], masses.now, None)
    ids = await bench.ledger.retried_ids(no, None, 10)
    await bench.ledger.add_slices(no, [ids], planned=True)
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    await masses.gather(lease, 1, 2)
    await bench.settle(lease)
    second = await masses.asked(no, [1, 2])
    assert (second.no, second.clientmsgid == first.clientmsgid) == (2, False)
    await masses.ledger.end_chunk(no, 2, SENT, masses.now)
    await masses.settle_all(no)
    job = await bench.ledger.finish(no, masses.now)
    assert job.books.outcomes == {Outcome.SENT: 2}


@pytest.mark.parametrize("early", [True, False])
async def test_the_events_counts_are_found_whichever_comes_first(bench, masses, early):
    no = await masses.job([1, 2])
    await masses.asked(no, [1, 2])
    finished = MassFinished(
        openid="o1", original_id="gh_x", created_s=1, dedupe_key="k", msg_id=SENT.msg_id,
        status="send success", total=2, filtered=2, sent=1, errors=1,
    )  # fmt: skip
    push = NewPush("default", finished, PushKind.MASS_FINISHED)
    if early:
        await masses.ledger.take_pushes([push], masses.now)
    await masses.ledger.end_chunk(no, 1, SENT, masses.now)
    if not early:
        await masses.ledger.take_pushes([push], masses.now)
    (chunk,) = await masses.ledger.mass_chunks(no)
    facts = chunk_facts(chunk)
    assert [facts[name] for name in ("status", "msg_id", "total_count", "filter_count")] == [
        "send success", SENT.msg_id, 2, 2,
    ]  # fmt: skip
    assert (facts["sent_count"], facts["error_count"]) == (1, 1)


async def test_a_large_chunk_ends_in_one_commit(bench, masses):
    ids = list(range(1, 10_001))
    cut = [ids[at : at + 500] for at in range(0, len(ids), 500)]
    no = await masses.job(*cut)
    chunk = await masses.chunk(no, ids)
    assert chunk.size == 10_000
    assert len(await masses.ledger.ask_chunk(no, 1, masses.now)) == 10_000
    await masses.ledger.end_chunk(no, 1, SENT, masses.now)
    await bench.reopen()
    await masses.settle_all(no)
    assert (await bench.ledger.finish(no, masses.now)).books.outcomes == {Outcome.SENT: 10_000}


async def test_purged_with_the_rest(bench, masses):
    no = await masses.job([1, 2])
    await masses.asked(no, [1, 2])
    await masses.ledger.end_chunk(no, 1, SENT, masses.now)
    await masses.settle_all(no)
    await bench.ledger.finish(no, masses.now)
    bench.clock.advance(400 * 86400)
    while await bench.ledger.purge(masses.now, timedelta(days=30), 100):
        pass
    assert bench.home.rows("SELECT * FROM mass_chunks") == []
