import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.wire.turnstile import Turnstile


def test_a_few_come_at_once_and_the_rest_one_by_one():
    turnstile = Turnstile(per_s=100, at_once=3)
    waits_s = [turnstile.wait_s(1000.0) for _ in range(6)]
    assert waits_s == pytest.approx([0, 0, 0, 0.01, 0.02, 0.03])


def test_a_quiet_while_is_saved_up_to_the_few():
    turnstile = Turnstile(per_s=10, at_once=2)
    for _ in range(5):
        turnstile.wait_s(1000.0)
    assert [turnstile.wait_s(5000.0) for _ in range(3)] == pytest.approx([0, 0, 0.1])


@given(st.lists(st.floats(0, 2), max_size=50))
def test_never_more_pass_than_allowed_and_in_order(gaps_s):
    turnstile, now_s, passed_at = Turnstile(per_s=10, at_once=5), 1000.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        passed_at.append(now_s + turnstile.wait_s(now_s))
    assert passed_at == sorted(passed_at)
    for number, at in enumerate(passed_at):
        in_one_second = sum(at <= other <= at + 1 for other in passed_at[number:])
        assert in_one_second <= 5 + 10 + 1
