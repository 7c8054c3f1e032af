import asyncio
import dataclasses
from datetime import timedelta

import pytest
from bed.fakes import OK, FakeClock, FakeRecorder, ScriptedChannel, open_job, settle_down
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcastd.delivery.sender import Sender
from broadcastd.delivery.slice_run import SliceRun
from broadcastd.delivery.slots import SharedParts
from broadcastd.model import WITH_ITS_CHUNK, Deferral, Lease, OnUnknown
from broadcastd.outcomes import Answer, Outcome

CHUNK = 8
"""Of the pace that `open_job` has, as of aiohttp's transport."""


def openid(one):
    return f"o{one}"


class Scene:
    """One slice over one scripted channel. `ids`: all frozen; `gone`: opted out meanwhile."""

    def __init__(
        self, ids, *, gone=(), ended=(), deferrals=(), in_flight=8, script=(), on_unknown=OnUnknown.RESEND
    ):
        self.clock = FakeClock()
        self.channel = ScriptedChannel("custom", script)
        self.job = open_job(self.clock, self.channel, on_unknown=on_unknown)
        self.recorder = FakeRecorder()
        self.pace = self.job.account.pace
        self.pace.sends_per_task = in_flight
        # The fake clock stands still during a call: without this the pace would fall to 1.
        self.pace.note = lambda now_s, latencies_s: None
        deferred = {one.recipient_id for one in deferrals}
        unasked = tuple(one for one in ids if one not in deferred and one not in ended)
        self.lease = Lease(1, 1, 77, tuple(ids), unasked, tuple(deferrals))
        rows = [(one, openid(one)) for one in ids if one not in gone and one not in ended]
        shared = SharedParts(Sender(self.clock), self.recorder, self.clock)
        self.run = SliceRun(self.lease, self.job, rows, shared)

    @property
    def asked(self):
        return [int(one[1:]) for one in self.channel.asked]

    @property
    def let_through(self):
        """How far the marks go that were granted (or are being waited for)."""
        return max((mark.upto for mark in self.recorder.marks if mark.upto is not None), default=0)

    @property
    def put_off(self):
        return [row.deferral.recipient_id for row in self.recorder.deferrals]

    def start(self):
        return asyncio.create_task(self.run.run())


async def finished(running):
    async with asyncio.timeout(10):
        await running


async def drained(scene, running):
    """Answer whoever is asked, until the run ends."""
    async with asyncio.timeout(10):
        while not running.done():
            scene.channel.release(100)
            await asyncio.sleep(0)
        await running


async def test_everybody_is_asked_once_in_order_and_ends():
    scene = Scene(range(1, 101))
    await finished(scene.run.run())
    assert scene.asked == list(range(1, 101))
    assert [row.recipient_id for row in scene.recorder.outcomes] == list(range(1, 101))
    assert {row.outcome for row in scene.recorder.outcomes} == {Outcome.SENT}
    assert {(row.job_no, row.channel, row.was_deferred) for row in scene.recorder.outcomes} == {
        (1, "custom", False)
    }
    assert scene.recorder.outcomes[4].openid == "o5"
    assert scene.put_off == []


async def test_nobody_is_asked_before_their_mark_is_granted():
    scene = Scene(range(1, 41))
    scene.recorder.hold = True
    running = scene.start()
    await settle_down()
    assert scene.asked == []
    granted = 0
    while not running.done():
        if scene.recorder.waiting:
            granted = scene.recorder.marks[len(scene.recorder.marks) - len(scene.recorder.waiting)].upto
            scene.recorder.grant()
        await settle_down()
        assert max(scene.asked) <= granted
    assert scene.asked == list(range(1, 41))
    marks = [mark.upto for mark in scene.recorder.marks]
    assert marks[0] == 2 * CHUNK
    assert marks[-1] == 40


async def test_a_mark_goes_as_far_as_makes_two_chunks_when_it_is_written():
    """So that a task may ask two chunks between two commits, and never more are unanswered."""
    scene = Scene(range(1, 101), in_flight=1)
    scene.channel.hold = True
    answered_meanwhile = 3
    wanted = []

    class Lazy:
        async def mark(self, make):
            wanted.append(asyncio.get_running_loop().create_future())
            await wanted[-1]
            return await scene.recorder.mark(make)

        def __getattr__(self, name):
            return getattr(scene.recorder, name)

    scene.run._recorder = Lazy()
    running = scene.start()
    await settle_down()
    wanted.pop().set_result(None)
    await settle_down()
    assert scene.let_through == 2 * CHUNK
    while not wanted:
        scene.channel.release()
        await settle_down()
    assert len(scene.recorder.outcomes) == CHUNK
    for _ in range(answered_meanwhile):
        scene.channel.release()
        await settle_down()
    wanted.pop().set_result(None)
    await settle_down()
    assert scene.let_through == 3 * CHUNK + answered_meanwhile
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize("in_flight", [1, 3, 8, 20])
async def test_at_most_two_chunks_are_let_through_and_unanswered(in_flight):
    scene = Scene(range(1, 201), in_flight=in_flight)
    scene.channel.hold = True
    most = 0
    running = scene.start()
    while not running.done():
        await settle_down()
        unanswered = scene.let_through - len(scene.recorder.outcomes)
        most = max(most, unanswered)
        assert unanswered <= 2 * max(CHUNK, in_flight)
        assert scene.channel.waiting <= in_flight
        scene.channel.release()
    await running
    assert most > max(CHUNK, in_flight)  # the next chunk's mark does not wait for the last answer
    assert len(scene.recorder.outcomes) == 200


async def test_as_many_are_in_flight_as_the_pace_says():
    scene = Scene(range(1, 101), in_flight=5)
    scene.channel.hold = True
    running = scene.start()
    await settle_down()
    assert scene.channel.waiting == 5
    await drained(scene, running)


async def test_a_slower_pace_takes_slots_away_and_a_faster_one_adds_some():
    scene = Scene(range(1, 201), in_flight=8)
    scene.channel.hold = True
    running = scene.start()
    await settle_down()
    scene.pace.sends_per_task = 2
    for _ in range(8):
        scene.channel.release()
        await settle_down()
    assert scene.channel.waiting == 2
    scene.pace.sends_per_task = 12
    for _ in range(12):
        scene.channel.release()
        await settle_down()
    assert scene.channel.waiting == 12
    await drained(scene, running)
    assert scene.asked == list(range(1, 201))


async def test_stop_puts_off_who_was_let_through_and_not_asked():
    scene = Scene(range(1, 101), in_flight=3)
    scene.channel.hold = True
    running = scene.start()
    await settle_down()
    scene.run.stop()
    scene.run.stop()
    await settle_down()
    assert not running.done()  # who is being asked is waited for
    await drained(scene, running)
    assert scene.asked == [1, 2, 3]
    assert [row.recipient_id for row in scene.recorder.outcomes] == [1, 2, 3]
    assert scene.put_off == list(range(4, scene.let_through + 1))
    assert all(
        row.deferral.due_at == scene.clock.now() and not row.in_doubt for row in scene.recorder.deferrals
    )
    assert scene.run.spare == 0


async def test_stop_before_the_first_mark_is_granted():
    scene = Scene(range(1, 31))
    scene.recorder.hold = True
    running = scene.start()
    await settle_down()
    scene.run.stop()
    scene.recorder.grant()
    await finished(running)
    assert scene.asked == []
    assert scene.put_off == list(range(1, 2 * CHUNK + 1))
    assert len(scene.recorder.marks) == 1


async def test_a_run_that_was_stopped_before_it_began_marks_nothing():
    scene = Scene(range(1, 31))
    scene.run.stop()
    await finished(scene.run.run())
    assert scene.recorder.marks == []
    assert scene.asked == scene.put_off == []


async def test_a_lost_lease_asks_nobody_more():
    scene = Scene(range(1, 101))
    scene.channel.hold = True
    scene.recorder.refuse_from = 1
    running = scene.start()
    await drained(scene, running)
    assert scene.run.lease_lost
    assert max(scene.asked) <= scene.recorder.marks[0].upto
    assert len(scene.recorder.marks) == 2
    assert len(scene.recorder.outcomes) == len(scene.asked)
    assert scene.put_off == []  # the slice is another's now


async def test_a_lease_lost_at_the_first_mark_asks_nobody():
    scene = Scene(range(1, 101))
    scene.recorder.refuse_from = 0
    await finished(scene.run.run())
    assert scene.run.lease_lost
    assert scene.asked == []
    assert scene.recorder.outcomes == scene.recorder.deferrals == []


async def test_give_half_keeps_and_gives_exactly():
    scene = Scene(range(2, 202, 2))
    scene.recorder.hold = True
    running = scene.start()
    await settle_down()
    assert scene.run.spare == 84
    split, rows = scene.run.give_half()
    assert (*split.keep, *split.give) == scene.lease.ids
    assert [one for one, _ in rows] == list(split.give)
    assert [name for _, name in rows] == [openid(one) for one in split.give]
    assert scene.run.spare == 42
    assert min(split.give) > scene.recorder.marks[0].upto
    scene.recorder.hold = False
    scene.recorder.grant()
    await finished(running)
    assert scene.asked == list(split.keep)
    assert scene.let_through == split.keep[-1]


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 500), min_size=20, max_size=120).map(sorted), st.data())
def test_however_it_is_split_everybody_is_asked_by_exactly_one(ids, data):
    gone = set(data.draw(st.lists(st.sampled_from(ids), max_size=15)))
    scene = Scene(ids, gone=gone)
    split_off = []

    def on_mark(mark):
        del mark
        while scene.run.spare >= 2 * CHUNK and data.draw(st.booleans()):
            split_off.append(scene.run.give_half())

    scene.recorder.on_mark = on_mark
    asyncio.run(scene.run.run())
    given_away = [one for _, rows in split_off for one, _ in rows]
    assert sorted(scene.asked + given_away) == [one for one in ids if one not in gone]
    # The frozen ids of what was kept and given, together, are the slice's, gone ones included.
    assert sorted([*scene.run.lease.ids, *(one for split, _ in split_off for one in split.give)]) == ids
    assert scene.let_through == scene.run.lease.ids[-1]


async def test_the_last_mark_covers_who_is_gone_from_the_end():
    scene = Scene(range(1, 21), gone=range(15, 21))
    await finished(scene.run.run())
    assert scene.asked == list(range(1, 15))
    assert scene.let_through == 20


async def test_deferred_recipients_are_armed_before_they_are_asked_and_keep_what_is_known():
    due = FakeClock().now()
    deferrals = [Deferral(3, due, channel_no=0, tries=2, doubts=0), Deferral(1, due, tries=0, doubts=1)]
    scene = Scene(range(1, 11), deferrals=deferrals, script=[Answer(-1), Answer(unanswered="lost")])
    await finished(scene.run.run())
    first = scene.recorder.marks[0]
    assert list(first.armed) == [3, 1]
    assert scene.asked[:2] == [3, 1]
    (again,) = scene.recorder.deferrals
    assert (again.deferral.recipient_id, again.deferral.tries, again.in_doubt) == (3, 3, False)
    unknown = scene.recorder.outcomes[0]
    assert (unknown.recipient_id, unknown.outcome, unknown.was_deferred) == (1, Outcome.UNKNOWN, True)


async def test_who_is_not_due_yet_is_left_alone():
    clock = FakeClock()
    later = Deferral(2, clock.now() + timedelta(seconds=1))
    scene = Scene([1, 2], deferrals=[Deferral(1, clock.now()), later])
    await finished(scene.run.run())
    assert scene.asked == [1]
    assert [mark.upto for mark in scene.recorder.marks] == [None]


async def test_one_without_answer_is_put_off_in_doubt():
    scene = Scene([1, 2], script=[Answer(unanswered="lost"), OK])
    await finished(scene.run.run())
    (row,) = scene.recorder.deferrals
    assert row.in_doubt
    assert (row.deferral.recipient_id, row.deferral.doubts) == (1, 1)
    assert row.deferral.due_at > scene.clock.now()
    assert [one.recipient_id for one in scene.recorder.outcomes] == [2]


async def test_a_halt_stops_the_run_and_loses_nobody():
    scene = Scene(range(1, 51), in_flight=1, script=[OK, Answer(45002)])
    await finished(scene.run.run())
    assert "45002" in scene.run.halted.reason
    assert scene.asked == [1, 2]
    assert scene.put_off == list(range(2, scene.let_through + 1))


async def test_while_the_gate_is_closed_nobody_is_asked():
    scene = Scene(range(1, 6), in_flight=2)
    scene.job.account.gate.close(60, "slower")
    opens_s = scene.clock.monotonic_s() + 60
    at_s = []
    attempt = scene.channel.attempt

    async def noting(body, token, may_ask):
        at_s.append(scene.clock.monotonic_s())
        return await attempt(body, token, may_ask)

    scene.channel.attempt = noting
    await finished(scene.run.run())
    assert scene.asked == [1, 2, 3, 4, 5]
    assert min(at_s) >= opens_s


async def test_nobody_to_ask_needs_no_mark():
    scene = Scene([1, 2, 3], gone=[1, 2, 3])
    await finished(scene.run.run())
    assert scene.recorder.marks == []


async def test_a_bug_in_the_sender_ends_the_run_loudly():
    scene = Scene(range(1, 31))

    async def broken(body, token, may_ask):
        raise ZeroDivisionError

    scene.channel.attempt = broken
    with pytest.raises(ExceptionGroup) as raised:
        await finished(scene.run.run())
    assert raised.group_contains(ZeroDivisionError)


async def test_nobody_is_asked_after_the_deadline_however_late_the_timekeeper_is():
    scene = Scene(range(1, 101))
    scene.job.job = dataclasses.replace(scene.job.job, not_after=scene.clock.now())
    await finished(scene.run.run())
    assert scene.asked == []
    assert scene.put_off == list(range(1, 101))
    assert scene.recorder.outcomes == []


async def test_who_is_gathered_is_due_with_their_chunk_on_the_channel_they_fell_to():
    scene = Scene(range(1, 4))
    scene.job.gathers_at = 0
    await finished(scene.run.run())
    assert scene.asked == []
    assert scene.recorder.outcomes == []
    assert [(one.job_no, one.recipient_id, one.openid) for one in scene.recorder.gathered] == [
        (1, 1, "o1"), (1, 2, "o2"), (1, 3, "o3"),
    ]  # fmt: skip
    assert scene.put_off == [1, 2, 3]
    assert {row.deferral.due_at for row in scene.recorder.deferrals} == {WITH_ITS_CHUNK}
    assert not any(row.in_doubt for row in scene.recorder.deferrals)
