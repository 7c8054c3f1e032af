from hypothesis import given
from hypothesis import strategies as st

from broadcastd import retry
from broadcastd.retry import Backoff


@given(st.floats(0.1, 10), st.floats(1, 20), st.floats(0, 1), st.integers(1, 2000))
def test_a_pause_doubles_up_to_the_longest_less_the_jitter(first_s, times, jitter, tries):
    longest_s = first_s * times
    whole_s = min(longest_s, first_s * 2.0 ** min(tries - 1, 100))
    pause_s = Backoff(first_s, longest_s, jitter).delay_s(tries)
    assert whole_s * (1 - jitter) <= pause_s <= whole_s


def test_without_jitter_it_is_exact():
    exact = Backoff(1, 16, jitter=0)
    assert [exact.delay_s(tries) for tries in range(1, 8)] == [1, 2, 4, 8, 16, 16, 16]


def test_system_busy_is_tried_as_wxjava_does():
    assert (retry.SYSTEM_BUSY.first_s, retry.SYSTEM_BUSY.longest_s) == (1, 16)
    assert retry.SYSTEM_BUSY_TRIES == 5


def test_what_says_nothing_of_the_recipient_is_tried_for_a_day():
    shortest_s = 1 - retry.REFUSED.jitter
    whole_s = sum(
        shortest_s * min(retry.REFUSED.longest_s, 2.0 ** min(tries, 30))
        for tries in range(retry.REFUSED_TRIES)
    )
    assert whole_s > 0.75 * 86400


def test_those_that_failed_together_do_not_come_back_together():
    assert len({retry.REFUSED.delay_s(3) for _ in range(50)}) > 10
