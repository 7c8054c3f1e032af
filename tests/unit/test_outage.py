import pytest
from bed.fakes import FakeClock

from broadcastd.delivery.outage import (
    FIRST_PATIENCE_S,
    FORGOTTEN_S,
    IN_A_ROW,
    LONGEST_PATIENCE_S,
    PAUSES,
    Outage,
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def outage(clock):
    return Outage(clock)


def begin(outage, clock):
    """Nothing but -1, a hundred a second, until it is one; how long that took, and the pause."""
    began_s = clock.monotonic_s()
    while (pause_s := outage.busy()) is None:
        clock.advance(0.01)
        assert clock.monotonic_s() < began_s + 60
    return clock.monotonic_s() - began_s, pause_s


def test_nothing_but_busy_for_a_while_is_an_outage(outage, clock):
    took_s, pause_s = begin(outage, clock)
    assert took_s == pytest.approx(FIRST_PATIENCE_S, abs=0.02)
    assert PAUSES.first_s * 0.75 <= pause_s <= PAUSES.first_s
    assert outage.is_on


def test_a_burst_of_an_instant_is_none(outage):
    assert {outage.busy() for _ in range(50 * IN_A_ROW)} == {None}
    assert not outage.is_on


def test_a_few_over_a_long_time_are_none(outage, clock):
    for _ in range(IN_A_ROW - 1):
        assert outage.busy() is None
        clock.advance(60)
    assert not outage.is_on


def test_any_other_answer_begins_the_count_anew(outage, clock):
    for _ in range(500):
        assert outage.busy() is None
        clock.advance(FIRST_PATIENCE_S / 10)
        assert outage.busy() is None
        assert not outage.over()
    assert not outage.is_on


def test_those_under_way_when_it_began_do_not_prolong_it(outage, clock):
    begin(outage, clock)
    assert {outage.busy() for _ in range(900)} == {None}


def test_the_pauses_grow_while_it_lasts(outage, clock):
    pauses = [begin(outage, clock)[1]]
    for _ in range(6):
        clock.advance(pauses[-1] + 0.001)
        pauses.append(outage.busy())
    assert pauses[0] < pauses[1] < pauses[2]
    assert 0.75 * PAUSES.longest_s <= pauses[-1] <= PAUSES.longest_s


def test_one_that_the_first_try_ends_makes_it_more_patient(outage, clock):
    took = []
    for _ in range(7):
        took.append(begin(outage, clock)[0])
        clock.advance(1)
        assert not outage.over(), "it was short"
        assert not outage.is_on
    assert took[:4] == pytest.approx([FIRST_PATIENCE_S * n for n in (1, 2, 4, 8)], abs=0.05)
    assert took[-1] == pytest.approx(LONGEST_PATIENCE_S, abs=0.05)
    clock.advance(FORGOTTEN_S + 1)
    assert begin(outage, clock)[0] <= LONGEST_PATIENCE_S + 0.05


def test_a_long_one_is_told_of_at_its_end(outage, clock):
    _, pause_s = begin(outage, clock)
    clock.advance(pause_s + 0.001)
    assert outage.busy() is not None
    assert outage.over()
    assert not outage.over()


def test_patience_is_forgotten(outage, clock):
    for _ in range(3):
        begin(outage, clock)
        clock.advance(1)
        outage.over()
    clock.advance(FORGOTTEN_S + 1)
    begin(outage, clock)
    clock.advance(1)
    outage.over()
    assert begin(outage, clock)[0] == pytest.approx(2 * FIRST_PATIENCE_S, abs=0.05)
