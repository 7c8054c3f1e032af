"""Who of a slice is still to be let through: taken from the front, given away from the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.unasked import Unasked

ROWS = [(one, f"o{one:027}") for one in range(-3, 8)]
OF_SEVERAL_LENGTHS = [(one, "求😀"[: one % 3] + f"o{one}") for one, _ in ROWS]
both = pytest.mark.parametrize("rows", [ROWS, OF_SEVERAL_LENGTHS])


@both
def test_the_first_ones_are_taken_in_order(rows):
    unasked = Unasked(rows)
    assert unasked.take(3) == rows[:3]
    assert len(unasked) == 8
    assert unasked.take(0) == unasked.take(-2) == []
    assert unasked.take(100) == rows[3:]
    assert not unasked
    assert unasked.take(1) == []


@both
def test_the_second_half_is_given_away(rows):
    unasked = Unasked(rows)
    assert unasked.take_half() == rows[6:]
    assert unasked.take_half() == rows[3:6]
    assert unasked.take(100) == rows[:3]
    assert unasked.take_half() == []


def test_nobody_is_unasked():
    unasked = Unasked([])
    assert (len(unasked), unasked.take(5), unasked.take_half()) == (0, [], [])


@given(
    st.lists(st.text(), max_size=20).map(lambda openids: list(enumerate(openids))) | st.just(ROWS),
    st.lists(st.one_of(st.none(), st.integers(-1, 5)), max_size=20),
)
def test_nobody_is_lost_or_taken_twice(rows, steps):
    """A number takes so many; None gives half away."""
    unasked, taken, given_away = Unasked(rows), [], []
    for step in steps:
        if step is None:
            given_away = [*unasked.take_half(), *given_away]
        else:
            taken += unasked.take(step)
    assert [*taken, *unasked.take(len(rows)), *given_away] == rows
