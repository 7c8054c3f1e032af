"""Who may call when: rate, number in flight, closings, holds, and the order of those who wait."""

import asyncio
import contextlib

import pytest
from bed.fakes import FakeClock, settle_down
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.lane import BUSY_REASON, HOLD_PAUSES, HoldOf, Lane
from broadcastd.delivery.limit import START
from broadcastd.delivery.outage import FIRST_PATIENCE_S, IN_A_ROW, PAUSES


class StillClock(FakeClock):
    """Who sleeps is woken by `advance` only."""

    def __init__(self):
        super().__init__()
        self.sleepers = []

    async def sleep(self, delay_s):
        woken = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.monotonic_s() + delay_s, woken))
        await woken

    def advance(self, seconds):
        super().advance(seconds)
        now_s = self.monotonic_s()
        for until_s, woken in self.sleepers:
            if until_s <= now_s + 1e-6 and not woken.done():
                woken.set_result(None)
        self.sleepers = [one for one in self.sleepers if not one[1].done()]


def always():
    return True


class Scene:
    """A lane that runs, and who has gone through it."""

    def __init__(self, most=960, rate_per_s=None):
        self.clock = StillClock()
        self.lane = Lane("default", "custom", self.clock, most, rate_per_s)
        self.tickets = []
        self.order = []
        self.waiting = {}

    def come(self, name, may_ask=always, *, first=False):
        self.waiting[name] = asyncio.get_running_loop().create_task(self._enter(name, may_ask, first))

    async def _enter(self, name, may_ask, first):
        ticket = await self.lane.enter(may_ask, first=first)
        self.order.append((name, bool(ticket)))
        if ticket:
            self.tickets.append(ticket)

    @property
    def admitted(self):
        return [name for name, went in self.order if went]

    def leave(self, **how):
        self.lane.leave(self.tickets.pop(0), **how)

    async def passes(self, seconds, step_s=0.01):
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            await settle_down(6)


@contextlib.asynccontextmanager
async def running(**about):
    scene = Scene(**about)
    loop = asyncio.get_running_loop().create_task(scene.lane.run())
    try:
        yield scene
        await settle_down()
        assert not loop.done()
    finally:
        tasks = [loop, *scene.waiting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_more_under_way_than_may_be_and_who_waits_comes_in_order():
    async with running(most=3) as scene:
        for name in range(8):
            scene.come(name)
        await settle_down()
        assert scene.admitted == [0, 1, 2]
        assert scene.lane.in_flight == 3
        for _ in range(5):
            scene.leave(troubled=False)
            await settle_down()
            assert scene.lane.in_flight == 3
        assert scene.admitted == list(range(8))


async def test_one_who_comes_while_others_wait_does_not_overtake_them():
    async with running(most=1) as scene:
        scene.come("a")
        scene.come("b")
        await settle_down()
        scene.leave()
        scene.come("c")
        await settle_down()
        assert scene.admitted == ["a", "b"]


async def test_one_who_is_to_be_first_is():
    async with running(most=1) as scene:
        for name in ("a", "b"):
            scene.come(name)
        await settle_down()
        scene.come("c", first=True)
        await settle_down()
        scene.leave()
        await settle_down()
        assert scene.admitted == ["a", "c"]


async def test_the_rate_is_kept_over_time():
    async with running(rate_per_s=20) as scene:
        for name in range(500):
            scene.come(name)
        for second in range(1, 6):
            await scene.passes(1)
            assert 20 * second <= len(scene.admitted) <= 20 * second + 6


async def test_a_rate_below_one_a_second():
    async with running(rate_per_s=0.5) as scene:
        for name in range(20):
            scene.come(name)
        await settle_down()
        assert len(scene.admitted) == 1
        await scene.passes(9, step_s=0.1)
        assert 5 <= len(scene.admitted) <= 6


async def test_what_was_not_used_is_not_made_up_for_in_a_burst():
    async with running(rate_per_s=50) as scene:
        scene.clock.advance(3600)
        for name in range(500):
            scene.come(name)
        await settle_down()
        assert len(scene.admitted) <= 12
        await scene.passes(2)
        assert 100 <= len(scene.admitted) <= 112


async def test_another_rate_counts_for_those_who_wait():
    async with running(rate_per_s=0.01) as scene:
        for name in range(50):
            scene.come(name)
        await scene.passes(1)
        assert len(scene.admitted) == 1
        scene.lane.change(None, 960)
        await scene.passes(0.3)
        assert len(scene.admitted) == 50


async def test_a_higher_number_wakes_those_who_wait():
    async with running(most=2) as scene:
        for name in range(9):
            scene.come(name)
        await settle_down()
        scene.lane.change(None, 5)
        await settle_down()
        assert len(scene.admitted) == 5, "it was as high as it might"


async def test_a_lower_number_lets_nobody_in_until_fewer_are_under_way():
    async with running(most=5) as scene:
        for name in range(9):
            scene.come(name)
        await settle_down()
        scene.lane.change(None, 2)
        for _ in range(3):
            scene.leave()
            await settle_down()
            assert len(scene.admitted) == 5
        scene.leave()
        await settle_down()
        assert len(scene.admitted) == 6


async def test_who_may_not_ask_any_more_goes_at_once_from_anywhere_in_the_line():
    stopped = set()
    async with running(most=1) as scene:
        for name in range(5):
            scene.come(name, lambda name=name: name not in stopped)
        await settle_down()
        stopped |= {2, 4}
        scene.lane.look()
        await settle_down()
        assert scene.order == [(0, True), (2, False), (4, False)]
        for _ in range(2):
            scene.leave()
            await settle_down()
        assert scene.admitted == [0, 1, 3]


async def test_who_may_not_ask_is_not_let_in():
    async with running() as scene:
        scene.come("a", lambda: False)
        await settle_down()
        assert scene.order == [("a", False)]
        assert scene.lane.in_flight == 0


@pytest.mark.parametrize("turns", range(4))
async def test_a_waiter_that_is_cancelled_costs_no_place(turns):
    async with running(most=1) as scene:
        for name in ("a", "b", "c"):
            scene.come(name)
        await settle_down()
        scene.leave()  # "b" is next: it may have been let in already, and not know it
        await settle_down(turns)
        scene.waiting["b"].cancel()
        await settle_down()
        if "b" in scene.admitted:
            scene.leave()
            await settle_down()
        assert scene.admitted[-1] == "c"
        assert scene.lane.in_flight == 1


async def test_a_closing_lets_nobody_in_for_a_while_and_says_why():
    async with running() as scene:
        scene.lane.close(30, "45011 too many calls")
        for name in range(5):
            scene.come(name)
        await scene.passes(29, step_s=1)
        assert scene.admitted == []
        assert scene.lane.reason == "45011 too many calls"
        scene.lane.close(0.5, "a shorter one changes nothing")
        await scene.passes(2, step_s=0.2)
        assert scene.admitted == list(range(5))
        assert scene.lane.reason == ""


async def test_in_a_hold_those_who_wait_look_whether_they_may_and_later_one_at_a_time_tries():
    async with running(most=1) as scene:
        scene.come("a")
        scene.come("b", lambda: scene.lane.held is None)
        await settle_down()
        scene.lane.put_on_hold(HoldOf.QUOTA, "45009 used up")
        await settle_down()
        assert scene.order == [("a", True), ("b", False)]
        scene.leave()
        scene.lane.change(None, 10)
        await scene.passes(HOLD_PAUSES.first_s, step_s=1)
        assert scene.lane.held is None
        assert scene.lane.reason == "45009 used up", "until it is seen that it is over"
        for name in "cde":
            scene.come(name)
        await settle_down()
        assert scene.admitted == ["a", "c"]
        scene.leave()
        assert scene.lane.release()
        await settle_down()
        assert scene.admitted == ["a", "c", "d", "e"]


def test_the_pauses_of_a_hold_grow_and_stragglers_change_nothing():
    clock = FakeClock()
    lane = Lane("default", "custom", clock, 960)
    lefts = []
    for _ in range(9):
        for _ in range(50):  # as many as were under way
            hold = lane.put_on_hold(HoldOf.OPERATOR, "48001 not allowed")
        lefts.append(hold.until_s - clock.monotonic_s())
        clock.advance(lefts[-1])
    assert lefts == [min(HOLD_PAUSES.longest_s, HOLD_PAUSES.first_s * 2**n) for n in range(9)]
    assert lane.release()
    assert not lane.release()
    hold = lane.put_on_hold(HoldOf.OPERATOR, "again")
    assert hold.until_s - clock.monotonic_s() == HOLD_PAUSES.first_s, "a new one begins anew"


async def test_a_hold_ends_when_somebody_says_that_it_is_mended():
    async with running() as scene:
        scene.lane.put_on_hold(HoldOf.OPERATOR, "48001", 3600)
        for name in range(3):
            scene.come(name)
        await scene.passes(1)
        assert scene.admitted == []
        scene.lane.try_now()
        await scene.passes(0.4)
        assert scene.admitted == [0], "one call tries"


async def nothing_but_busy(scene):
    """An outage begins; everybody under way has come back."""
    step_s = FIRST_PATIENCE_S / IN_A_ROW
    for name in range(2 * IN_A_ROW):
        scene.come(f"busy {name}")
        await settle_down()
        scene.leave(troubled=True, busy=True)
        scene.clock.advance(step_s)
        if scene.lane.is_out_of_order:
            return
    raise AssertionError("no outage")


async def test_in_an_outage_one_at_a_time_tries_after_a_pause():
    async with running() as scene:
        await nothing_but_busy(scene)
        assert scene.lane.reason == BUSY_REASON
        before = len(scene.admitted)
        for name in range(5):
            scene.come(name)
        await settle_down()
        assert len(scene.admitted) == before
        await scene.passes(PAUSES.first_s + 0.3, step_s=0.1)
        assert scene.admitted[before:] == [0]
        scene.leave(troubled=True, busy=True)
        await scene.passes(PAUSES.first_s, step_s=0.1)
        assert scene.admitted[before:] == [0], "the pause has grown"
        await scene.passes(PAUSES.first_s + 0.3, step_s=0.1)
        assert scene.admitted[before:] == [0, 1]
        scene.leave(troubled=False, busy=False)
        await settle_down()
        assert scene.admitted[before:] == list(range(5))
        assert scene.lane.reason == ""


async def test_the_first_answer_of_those_under_way_ends_an_outage():
    async with running() as scene:
        scene.come("slow")
        await settle_down()
        slow = scene.tickets.pop(0)
        await nothing_but_busy(scene)
        scene.come("next")
        await settle_down()
        scene.lane.leave(slow, troubled=False, busy=False)
        await settle_down()
        assert scene.admitted[-1] == "next"


async def test_an_answer_does_not_end_another_closing():
    async with running() as scene:
        scene.come("slow")
        await settle_down()
        slow = scene.tickets.pop(0)
        await nothing_but_busy(scene)
        scene.lane.close(60, "45011 too many calls")
        scene.lane.leave(slow, troubled=False, busy=False)
        assert scene.lane.reason == "45011 too many calls"


def test_only_one_takes_it_on_to_try_again_and_again():
    clock = FakeClock()
    lane = Lane("default", "custom", clock, 960)
    assert not lane.begin_probe(), "no outage"
    for _ in range(IN_A_ROW + 1):
        ticket = lane._admit()
        lane.leave(ticket, troubled=True, busy=True)
        clock.advance(FIRST_PATIENCE_S / IN_A_ROW)
    assert lane.is_out_of_order
    assert lane.begin_probe()
    assert not lane.begin_probe()
    lane.end_probe()
    assert lane.begin_probe()


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["come", "leave", "cancel", "stop", "close", "hold", "mend", "change", "wait"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(ACTS)
def test_whatever_happens_nobody_is_forgotten_and_no_place_is_lost(acts):
    asyncio.run(play(acts))


class Player:
    """What may happen to a lane."""

    def __init__(self, scene):
        self.scene = scene
        self.lane = scene.lane
        self.came = 0
        self.stopped = set()

    async def come(self, value):
        name = self.came = self.came + 1
        self.scene.come(name, lambda: name not in self.stopped, first=value == 0)

    async def leave(self, value):
        if self.scene.tickets:
            self.scene.leave(troubled=value < 3, busy=value < 3)

    async def cancel(self, value):
        for name in self._one_who_waits(value):
            self.scene.waiting[name].cancel()

    async def stop(self, value):
        self.stopped.update(self._one_who_waits(value))
        self.lane.look()

    def _one_who_waits(self, value):
        names = [name for name, task in self.scene.waiting.items() if not task.done()]
        return names[value % len(names) :][:1] if names else []

    async def close(self, value):
        self.lane.close(value, "closed")

    async def hold(self, value):
        self.lane.put_on_hold(HoldOf.QUOTA, "held", 1 + value)

    async def mend(self, value):
        self.lane.release()

    async def change(self, value):
        self.lane.change([None, 5, 50][value % 3], 1 + value % 8)

    async def wait(self, value):
        await self.scene.passes(value, step_s=0.5)


async def play(acts):
    async with running(most=4, rate_per_s=50) as scene:
        lane, player = scene.lane, Player(scene)
        for act, value in acts:
            await getattr(player, act)(value)
            await settle_down(3)
            assert lane.in_flight <= 8
        lane.release()
        lane.change(None, 8)
        for _ in range(len(acts) + 2):
            while scene.tickets:
                scene.leave(troubled=False, busy=False)
            await scene.passes(10, step_s=2)
        assert all(task.done() for task in scene.waiting.values())
        assert lane.in_flight == 0


def test_it_begins_with_a_number_that_is_soon_found_to_be_too_low():
    assert Lane("default", "custom", FakeClock(), 960).limit == START
