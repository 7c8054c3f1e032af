"""The law of the number in flight: it finds what an endpoint bears, and is not fooled by other trouble."""

from collections import deque

import pytest
from bed.fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.limit import FLOOR, GROWTH, PATIENCE_S, START, WINDOW_S, Limit

ROUND_TRIP_S = 0.05


class Traffic:
    """As many calls under way as the limit lets, each a round trip long."""

    def __init__(self, most=960):
        self.clock = FakeClock()
        self.limit = Limit(self.clock, most)
        self.calls = deque()
        self.ended = 0

    def fill(self):
        while self.limit.in_flight < self.limit.present:
            self.calls.append(self.limit.began())

    def round_trip(self, is_troubled):
        """Everybody under way comes back; `is_troubled` gets the call's place among them, from 0."""
        self.fill()
        self.clock.advance(ROUND_TRIP_S)
        for place in range(len(self.calls)):
            self.ended += 1
            self.limit.ended(self.calls.popleft(), is_troubled(place))
        self.fill()

    def seconds(self, many, is_troubled):
        for _ in range(int(many / ROUND_TRIP_S)):
            self.round_trip(is_troubled)


def well(place):
    return False


def bears(number):
    return lambda place: place >= number


def test_it_begins_low_and_doubles_while_all_is_well():
    traffic = Traffic()
    assert traffic.limit.present == START
    traffic.seconds(1, well)
    assert traffic.limit.present == 960


def test_without_calls_to_fill_it_it_does_not_rise():
    limit = Limit(FakeClock(), 960)
    for _ in range(500):
        limit.ended(limit.began(), troubled=False)
    assert limit.present == START


@pytest.mark.parametrize("number", [20, 40, 200, 500])
def test_it_settles_around_what_an_endpoint_bears(number):
    traffic = Traffic()
    traffic.seconds(2, bears(number))
    for _ in range(100):
        traffic.round_trip(bears(number))
        assert 0.5 * number <= traffic.limit.present <= 1.4 * number


def test_it_falls_within_a_second_when_an_endpoint_bears_less_of_a_sudden():
    traffic = Traffic()
    traffic.seconds(2, well)
    traffic.seconds(1, bears(40))
    assert traffic.limit.present <= 48


def test_it_rises_slowly_after_trouble():
    traffic = Traffic()
    traffic.seconds(2, well)
    traffic.seconds(1, bears(96))
    low = traffic.limit.present
    traffic.seconds(WINDOW_S, well)
    assert low <= traffic.limit.present <= low + 2 * (low // GROWTH)
    traffic.seconds(60, well)
    assert traffic.limit.present == 960


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9, 1.0])
def test_trouble_that_falling_does_not_lessen_is_not_of_our_making(share):
    traffic = Traffic()
    traffic.seconds(2, well)
    after = []
    for _ in range(int(PATIENCE_S / ROUND_TRIP_S)):
        traffic.round_trip(lambda place: place < share * traffic.limit.present)
        after.append(traffic.limit.present)
    assert min(after) >= FLOOR
    assert sum(now == 960 for now in after) > 0.9 * len(after)


def test_worse_trouble_is_not_borne_with_it():
    traffic = Traffic()
    traffic.seconds(2, well)
    traffic.seconds(2, lambda place: place % 4 == 0)
    assert traffic.limit.present == 960
    traffic.seconds(1, bears(100))
    assert traffic.limit.present < 200


def test_a_few_troubled_calls_change_nothing():
    traffic = Traffic()
    traffic.seconds(2, well)
    traffic.seconds(5, lambda place: place % 20 == 0)
    assert traffic.limit.present == 960


def test_calls_that_do_not_come_back_do_not_keep_it_from_judging():
    traffic = Traffic()
    stuck = [traffic.limit.began() for _ in range(10)]
    traffic.seconds(3, bears(40))
    assert traffic.limit.present <= 60
    for call in stuck:
        traffic.limit.ended(call, troubled=True)


def test_calls_that_were_not_made_say_nothing():
    traffic = Traffic()
    for _ in range(50):
        traffic.round_trip(lambda place: None)
    assert traffic.limit.present == 960
    assert traffic.limit.in_flight == 960


def test_another_number_at_most():
    traffic = Traffic()
    traffic.seconds(2, well)
    traffic.limit.change(50)
    assert (traffic.limit.present, traffic.limit.most) == (50, 50)
    traffic.limit.change(400)
    assert traffic.limit.present == 400, "it was as high as it might"
    traffic.seconds(1, bears(40))
    traffic.limit.change(900)
    assert traffic.limit.present <= 60, "WeChat has said what it bears"


def test_after_an_outage_it_begins_lower():
    traffic = Traffic()
    traffic.seconds(2, well)
    traffic.limit.fall()
    assert traffic.limit.present == 240
    for _ in range(10):
        traffic.limit.fall()
    assert traffic.limit.present == FLOOR


@given(
    st.integers(1, 100),
    st.lists(
        st.tuples(st.sampled_from(["begin", "well", "trouble", "none", "fall"]), st.floats(0, 2)),
        max_size=300,
    ),
)
def test_it_is_never_none_and_never_above_the_most(most, acts):
    clock = FakeClock()
    limit = Limit(clock, most)
    calls = deque()
    for act, after_s in acts:
        clock.advance(after_s)
        if act == "begin":
            calls.append(limit.began())
        elif act == "fall":
            limit.fall()
        elif calls:
            limit.ended(calls.popleft(), {"well": False, "trouble": True, "none": None}[act])
        assert min(FLOOR, most) <= limit.present <= most
        assert limit.in_flight == len(calls)


@given(
    st.lists(
        st.tuples(st.sampled_from(["another", "troubled", "begin", "end"]), st.floats(0, 1.5)), max_size=80
    )
)
def test_the_next_call_of_the_same_caller_is_an_end_and_a_beginning(acts):
    clock = FakeClock()
    one, two = Limit(clock, 960), Limit(clock, 960)
    tickets = [(one.began(), two.began()) for _ in range(20)]
    for act, pause_s in acts:
        clock.advance(pause_s)
        if act == "begin" or not tickets:
            tickets.append((one.began(), two.began()))
            continue
        mine, its = tickets.pop(0)
        if act == "another":
            two.ended(its, False)
            tickets.append((one.another(mine, clock.monotonic_s()), two.began()))
        else:
            for limit, ticket in ((one, mine), (two, its)):
                limit.ended(ticket, act == "troubled")
        assert (one.present, one.in_flight, one.round) == (two.present, two.in_flight, two.round)
