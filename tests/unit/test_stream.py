"""Recipients that are asked one after the other on one connection, and what ends that."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from bed.fakes import OK, FakeClock, FakeRecorder, ScriptedChannel, open_job, settle_down
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcastd.delivery.opt_outs import OptOuts
from broadcastd.delivery.sender import Sender
from broadcastd.delivery.slice_run import SliceRun
from broadcastd.delivery.slots import SharedParts
from broadcastd.model import Lease
from broadcastd.outcomes import Answer, Outcome
from broadcastd.pushes import PushKind

OUTSIDE = Answer(45015)
STALE = Answer(40001)


class StreamingChannel(ScriptedChannel):
    """Notes of each call whether it was part of a stream, and how often a stream began."""

    def __init__(self, name, script=(), default=OK):
        super().__init__(name, script, default)
        self.streams = 0
        self.streamed = []
        self.waits_for_connection = False
        self.before_connection = lambda: None
        self.before_each = lambda openid: None

    async def make_calls(self, source, token):
        self.streams += 1
        while (body := source.next_call()) is not None:
            openid = body.decode().split("|")[0]
            if self.waits_for_connection:
                self.before_connection()
                if not source.still():
                    source.ended(None)
                    return
            self.streamed.append(openid)
            self.before_each(openid)
            await settle_down(3)
            source.ended(await self.attempt(body, token, source.still))


class Scene:
    """One slice on its way over `custom` and `template`, one call at a time."""

    def __init__(self, many=20, *, custom=(), template=(), in_flight=1, opt_outs=False):
        self.clock = FakeClock()
        self.custom = StreamingChannel("custom", custom)
        self.template = StreamingChannel("template", template)
        self.job = open_job(self.clock, self.custom, self.template)
        self.account = self.job.account
        if opt_outs:
            self.account.opt_outs = OptOuts(self.clock)
        self.account.pace.sends_per_task = in_flight
        self.account.pace.note = lambda now_s, latencies_s: None
        self.lane = self.account.lanes["custom"]
        self.recorder = FakeRecorder()
        self.shared = SharedParts(Sender(self.clock), self.recorder, self.clock)
        self.run = self.slice(range(1, many + 1))

    def slice(self, ids, slice_no=1):
        ids = tuple(ids)
        lease = Lease(1, slice_no, 77, ids, ids)
        return SliceRun(lease, self.job, [(one, f"o{one}") for one in ids], self.shared)

    async def send(self):
        async with asyncio.timeout(10):
            await self.run.run()
        self.check_places()

    def check_places(self):
        """Whatever happened, nobody takes a place any more."""
        assert self.account.pace.in_flight == 0
        assert {lane.in_flight for lane in self.account.lanes.values()} == {0}
        if self.account.opt_outs is not None:
            assert not self.account.opt_outs._calls

    @property
    def ended(self):
        return Counter((row.outcome, row.channel) for row in self.recorder.outcomes)

    @property
    def put_off(self):
        return [row.deferral.recipient_id for row in self.recorder.deferrals]


async def test_where_all_is_well_a_slice_is_one_stream():
    scene = Scene(100)
    await scene.send()
    assert scene.custom.streamed == scene.custom.asked == [f"o{one}" for one in range(1, 101)]
    assert scene.custom.streams <= 3, "a stream does not end with each mark"
    assert scene.lane.calls.answers == {0: 100}
    assert sum(scene.lane.calls.latency_s.cumulative()[-1][1:]) == 100
    assert scene.account.tally.outcomes == {("custom", Outcome.SENT): 100}
    assert scene.job.ended == 100


async def test_who_is_outside_the_window_is_streamed_on_the_next_channel():
    scene = Scene(20, custom=[OUTSIDE, OK, OUTSIDE] + [OK] * 17, template=[Answer(43101)])
    await scene.send()
    assert scene.template.streamed == scene.template.asked == ["o1", "o3"]
    assert scene.ended == {
        (Outcome.SENT, "custom"): 18, (Outcome.REJECTED, "template"): 1, (Outcome.SENT, "template"): 1,
    }  # fmt: skip
    (refused,) = (row for row in scene.recorder.outcomes if row.outcome is Outcome.REJECTED)
    assert (refused.recipient_id, refused.errcode) == (1, 43101)


async def test_a_stale_token_costs_one_call_and_the_stream_goes_on_with_a_new_one():
    scene = Scene(20, custom=[OK, OK, STALE])
    await scene.send()
    assert scene.ended == {(Outcome.SENT, "custom"): 20}
    assert scene.custom.asked == ["o1", "o2", "o3", "o3", *(f"o{one}" for one in range(4, 21))]
    assert scene.custom.tokens == ["token-1"] * 3 + ["token-2"] * 18
    assert scene.account.tokens.discarded == ["token-1"]


async def test_a_token_that_was_renewed_ahead_is_used_from_the_next_call_on():
    scene = Scene(20)
    tokens = scene.account.tokens

    def renewed(openid):
        tokens.number += openid == "o5"

    scene.custom.before_each = renewed
    await scene.send()
    assert scene.custom.asked == [f"o{one}" for one in range(1, 21)]
    assert scene.custom.tokens == ["token-1"] * 5 + ["token-2"] * 15


async def test_busy_is_tried_again_later_and_the_others_go_on():
    scene = Scene(20, custom=[OK, Answer(-1)])
    await scene.send()
    assert scene.put_off == [2]
    assert scene.ended == {(Outcome.SENT, "custom"): 19}


@pytest.mark.parametrize("trouble", [Answer(unanswered="no answer in time"), Answer(refused="HTTP 503")])
async def test_trouble_is_one_recipients(trouble):
    scene = Scene(20, custom=[OK, trouble])
    await scene.send()
    (row,) = scene.recorder.deferrals
    assert (row.deferral.recipient_id, row.in_doubt) == (2, trouble.unanswered is not None)
    assert scene.ended == {(Outcome.SENT, "custom"): 19}


async def test_a_gate_that_closes_ends_it():
    scene = Scene(20)
    asked_s = {}

    def closing(openid):
        asked_s[openid] = scene.clock.monotonic_s()
        if openid == "o5":
            scene.account.gate.close(60, "x")

    scene.custom.before_each = closing
    await scene.send()
    assert asked_s["o6"] >= asked_s["o5"] + 60
    assert scene.ended == {(Outcome.SENT, "custom"): 20}


async def test_a_stop_ends_it():
    scene = Scene(20)
    scene.custom.before_each = lambda openid: scene.run.stop() if openid == "o5" else None
    await scene.send()
    assert scene.custom.asked == ["o1", "o2", "o3", "o4", "o5"]
    assert scene.put_off[0] == 6


async def test_a_lane_with_a_rate_is_entered_for_each_call():
    scene = Scene(20)
    scene.lane.change(10.0, 960)
    admitting = asyncio.create_task(scene.lane.run())
    began_s = scene.clock.monotonic_s()
    await scene.send()
    admitting.cancel()
    assert scene.custom.streams == 0
    assert scene.clock.monotonic_s() - began_s >= 1.7
    assert scene.ended == {(Outcome.SENT, "custom"): 20}


async def test_who_waits_for_a_place_gets_it_before_the_next_call_of_a_stream():
    scene = Scene(20)
    scene.lane.change(None, 1)
    other = scene.slice(range(101, 121), slice_no=2)
    admitting = asyncio.create_task(scene.lane.run())
    async with asyncio.timeout(10):
        await asyncio.gather(scene.run.run(), other.run())
    admitting.cancel()
    scene.check_places()
    asked = [int(one[1:]) for one in scene.custom.asked]
    assert sorted(asked) == [*range(1, 21), *range(101, 121)]
    assert min(asked.index(one) for one in range(101, 121)) < 20, "one slice does not wait for all of another"


async def test_who_opts_out_meanwhile_is_not_asked():
    scene = Scene(20, opt_outs=True)
    out = scene.account.opt_outs
    scene.custom.before_each = lambda openid: out.heard(PushKind.OPT_OUT, "o7") if openid == "o3" else None
    await scene.send()
    assert "o7" not in scene.custom.asked
    assert scene.ended == {(Outcome.SENT, "custom"): 19, (Outcome.SKIPPED, ""): 1}


async def test_an_opt_out_waits_for_the_call_under_way():
    scene = Scene(5, opt_outs=True)
    scene.custom.hold = True
    running = asyncio.create_task(scene.run.run())
    await settle_down()
    quiet = asyncio.create_task(scene.account.opt_outs.quiet("o1"))
    await settle_down()
    assert not quiet.done()
    while not running.done():
        scene.custom.release()
        await asyncio.sleep(0)
    await quiet
    scene.check_places()


async def test_who_may_not_be_asked_once_a_connection_is_there_is_put_off():
    scene = Scene(20)
    scene.custom.waits_for_connection = True
    scene.custom.before_each = lambda openid: scene.run.stop() if openid == "o3" else None
    await scene.send()
    assert scene.custom.asked == ["o1", "o2", "o3"]
    assert scene.put_off[0] == 4


async def test_a_latency_is_that_of_the_call_without_its_connection():
    scene = Scene(5)
    scene.custom.waits_for_connection = True
    scene.custom.before_connection = lambda: scene.clock.advance(3)
    scene.custom.before_each = lambda openid: scene.clock.advance(0.25)
    await scene.send()
    assert scene.lane.calls.latency_s.total == 5 * 0.25


async def test_the_deadline_is_looked_at_before_each_call():
    scene = Scene(20)
    until = scene.clock.now() + timedelta(seconds=5)
    job = scene.job.job
    scene.job.job = type(job)(**{name: getattr(job, name) for name in job.__slots__} | {"not_after": until})
    scene.custom.before_each = lambda openid: scene.clock.advance(1)
    await scene.send()
    assert scene.custom.asked == ["o1", "o2", "o3", "o4", "o5"]
    assert scene.put_off


async def test_a_run_that_is_cancelled_gives_its_places_back():
    scene = Scene(20, opt_outs=True, in_flight=3)
    scene.custom.hold = True
    running = asyncio.create_task(scene.run.run())
    await settle_down()
    assert scene.lane.in_flight == 3
    running.cancel()
    await asyncio.wait([running])
    scene.check_places()
    assert scene.recorder.outcomes == []


ANSWERS = [
    OK, OK, OK, Answer(msgid=7), OUTSIDE, Answer(43101), Answer(40003), Answer(-1), STALE, Answer(40241),
    Answer(unanswered="lost"), Answer(refused="HTTP 429"), Answer(45011), Answer(45009), Answer(48001),
    Answer(45002), Answer(40013), Answer(99999),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(ANSWERS), max_size=60),
    st.lists(st.sampled_from(ANSWERS), max_size=60),
    st.sampled_from([1, 3, 16]),
    st.booleans(),
)
def test_whatever_is_answered_everybody_ends_once_or_is_put_off(custom, template, in_flight, opt_outs):
    async def check():
        scene = Scene(40, custom=custom, template=template, in_flight=in_flight, opt_outs=opt_outs)
        admitting = [asyncio.create_task(lane.run()) for lane in scene.account.lanes.values()]
        await scene.send()
        for one in admitting:
            one.cancel()
        asked = [row.recipient_id for row in scene.recorder.outcomes] + scene.put_off
        let_through = max(mark.upto for mark in scene.recorder.marks)
        assert sorted(asked) == list(range(1, let_through + 1))
        most = 2 + len([one for one in (*custom, *template) if one.errcode in (-1, 40001)]) * 10
        for openid, calls in Counter(scene.custom.asked).items():
            assert calls <= most, openid

    asyncio.run(check())
