import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.pace import AT_START, BATCH, WINDOW_S, Pace


def ended(pace, now_s, latency_s):
    pace.started()
    pace.ended(now_s, latency_s)


def needed(latency_s, tasks):
    return math.ceil(12_000 * latency_s / tasks)


def test_before_any_latency_is_known():
    assert Pace(60, 16, 12_000, 8).sends_per_task == AT_START
    assert Pace(60, 4, 12_000, 8).sends_per_task == 4


def test_the_quickest_batch_of_late_counts():
    pace = Pace(60, 100, 12_000, 8)
    for at, latency_s in enumerate((0.4, 0.1, 0.3)):
        ended(pace, 10 + at, latency_s)
    assert pace.sends_per_task == needed(0.1, 60)


@pytest.mark.parametrize("together", [1, 10])
def test_few_answers_that_come_at_once_say_nothing_of_the_others(together):
    pace = Pace(60, 100, 12_000, 8)
    for number in range(0, 2000, together):
        latencies_s = [0.001 if one % 10 == 3 else 0.3 for one in range(number, number + together)]
        pace.note(10 + number / 1000, latencies_s)
    assert pace.sends_per_task == needed(0.3, 60)


def test_latencies_of_all_lengths_get_what_most_of_them_need():
    pace = Pace(60, 1000, 12_000, 8)
    chance = Random(1)
    for number in range(2000):
        ended(pace, 10 + number / 1000, chance.uniform(0.001, 0.5))
    assert needed(0.03, 60) < pace.sends_per_task < needed(0.12, 60)


def test_a_slower_api_is_noticed_after_two_windows():
    pace = Pace(60, 1000, 12_000, 8)
    ended(pace, 100, 0.05)
    ended(pace, 100 + WINDOW_S, 0.5)
    assert pace.sends_per_task == needed(0.05, 60)
    ended(pace, 100 + 2 * WINDOW_S, 0.5)
    assert pace.sends_per_task == needed(0.5, 60)


def test_a_faster_api_is_noticed_with_the_next_batch():
    pace = Pace(60, 1000, 12_000, 8)
    ended(pace, 100, 0.5)
    pace.note(100.1, [0.05] * BATCH)
    assert pace.sends_per_task == needed(0.05, 60)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 60)), min_size=1), st.integers(1, 256))
def test_it_is_never_none_and_never_above_the_ceiling(calls, ceiling):
    pace = Pace(60, ceiling, 12_000, 8)
    now_s = 50.0
    for after_s, latency_s in calls:
        now_s += after_s
        ended(pace, now_s, latency_s)
        assert 1 <= pace.sends_per_task <= ceiling


def test_in_flight_counts_what_is_out():
    pace = Pace(60, 16, 12_000, 8)
    pace.started()
    pace.started()
    pace.ended(1, 0.1)
    assert pace.in_flight == 1


def test_a_send_that_was_not_made_says_nothing_of_the_latency():
    pace = Pace(60, 16, 12_000, 8)
    pace.started()
    pace.ended(1.0, 0.08)
    before = pace.sends_per_task
    pace.started()
    pace.ended(1.1, None)
    assert (pace.sends_per_task, pace.in_flight) == (before, 0)
