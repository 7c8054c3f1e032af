import pytest
from bed.fakes import FakeClock

from broadcastd.delivery.gate import FAILURES_TO_CLOSE, LOOK_S, PAUSES, Gate


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gate(clock):
    return Gate(clock)


def fail(gate, times=FAILURES_TO_CLOSE):
    for _ in range(times):
        gate.failed("no route")


def test_it_is_open_at_first(gate):
    assert not gate.closed
    assert gate.reason == ""


def test_many_failures_in_a_row_close_it_for_a_while_with_the_reason(gate, clock):
    fail(gate, FAILURES_TO_CLOSE - 1)
    assert not gate.closed
    gate.failed("no route")
    assert gate.closed
    assert gate.reason == "no route"
    clock.advance(PAUSES.first_s)
    assert not gate.closed
    assert gate.reason == "no route", "until a call is answered"
    gate.passed()
    assert gate.reason == ""


def test_after_failures_one_call_at_a_time_tries_it(gate, clock):
    assert gate.enter()
    assert gate.enter(), "open: any number"
    gate.leave()
    gate.leave()
    fail(gate)
    assert not gate.enter()
    clock.advance(PAUSES.first_s)
    assert gate.enter()
    assert not gate.enter()
    gate.failed("still no route")
    gate.leave()
    assert gate.closed, "the one that tried it is enough"
    clock.advance(PAUSES.longest_s)
    assert gate.enter()
    gate.passed()
    assert gate.enter(), "answered: open to all"


def test_one_that_was_let_in_and_made_no_call_does_not_keep_the_others_out(gate, clock):
    fail(gate)
    clock.advance(PAUSES.first_s)
    assert gate.enter()
    gate.leave()
    assert gate.enter()


def test_one_answer_between_them_keeps_it_open(gate):
    fail(gate, FAILURES_TO_CLOSE - 1)
    gate.passed()
    fail(gate, FAILURES_TO_CLOSE - 1)
    assert not gate.closed


def test_those_in_flight_when_it_closes_do_not_prolong_the_pause(gate, clock):
    fail(gate, 5 * FAILURES_TO_CLOSE)
    clock.advance(PAUSES.first_s)
    assert not gate.closed


def open_after_s(gate, clock):
    before_s = clock.monotonic_s()
    while gate.closed:
        clock.advance(0.01)
    return clock.monotonic_s() - before_s


def test_pauses_grow_up_to_the_longest_and_start_anew_after_an_answer(gate, clock):
    pauses_s = []
    for _ in range(8):
        fail(gate)
        pauses_s.append(open_after_s(gate, clock))
    for number, pause_s in enumerate(pauses_s):
        whole_s = min(PAUSES.longest_s, PAUSES.first_s * 2**number)
        assert whole_s * (1 - PAUSES.jitter) <= pause_s <= whole_s + 0.02
    gate.passed()
    fail(gate)
    assert open_after_s(gate, clock) <= PAUSES.first_s + 0.02


def test_a_shorter_pause_never_shortens_a_longer_one(gate, clock):
    gate.close(60, "slower")
    gate.close(5, "no token")
    clock.advance(59)
    assert gate.closed


async def test_who_waits_looks_around_every_moment(gate, clock):
    gate.close(LOOK_S * 1.5, "slower")
    await gate.wait()
    assert gate.closed
    await gate.wait()
    assert not gate.closed
    assert clock.slept == pytest.approx([LOOK_S, LOOK_S / 2])
