"""Who of a slice is still to be let through: taken from the front, given away from the end."""

from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.unasked import Unasked

ROWS = [(one, f"o{one}") for one in range(-3, 8)]


def test_the_first_ones_are_taken_in_order():
    unasked = Unasked(ROWS)
    assert unasked.take(3) == ROWS[:3]
    assert len(unasked) == 8
    assert unasked.take(0) == unasked.take(-2) == []
    assert unasked.take(100) == ROWS[3:]
    assert not unasked
    assert unasked.take(1) == []


def test_the_second_half_is_given_away():
    unasked = Unasked(ROWS)
    assert unasked.take_half() == ROWS[6:]
    assert unasked.take_half() == ROWS[3:6]
    assert unasked.take(100) == ROWS[:3]
    assert unasked.take_half() == []


@given(st.lists(st.one_of(st.none(), st.integers(-1, 5)), max_size=20))
def test_nobody_is_lost_or_taken_twice(steps):
    """A number takes so many; None gives half away."""
    unasked, taken, given_away = Unasked(ROWS), [], []
    for step in steps:
        if step is None:
            given_away = [*unasked.take_half(), *given_away]
        else:
            taken += unasked.take(step)
    assert [*taken, *unasked.take(len(ROWS)), *given_away] == ROWS
