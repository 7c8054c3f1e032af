import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.cutting import SMALLEST_SLICE, cut_evenly, cut_whole, not_ascending

IDS = st.integers(0, 5000).map(lambda n: list(range(1, 2 * n, 2)))
TASKS = st.integers(1, 100)
SIZE = st.integers(1, 500)


@given(IDS, TASKS, SIZE)
def test_everybody_is_in_exactly_one_slice_in_order(ids, tasks, size):
    assert list(itertools.chain.from_iterable(cut_evenly(ids, tasks, size))) == ids


@given(IDS, TASKS, SIZE)
def test_slices_are_even_to_within_one_and_at_most_size(ids, tasks, size):
    lengths = [len(cut) for cut in cut_evenly(ids, tasks, size)]
    if lengths:
        assert min(lengths) >= 1
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1


@given(IDS, TASKS, SIZE)
def test_all_tasks_have_work_unless_slices_would_be_tiny(ids, tasks, size):
    slices = cut_evenly(ids, tasks, size)
    if len(ids) >= tasks * SMALLEST_SLICE:
        assert len(slices) >= tasks
    assert len(slices) <= max(tasks, -(-len(ids) // size))


@given(IDS, SIZE)
def test_whole_slices_have_exactly_size_and_the_rest_is_less(ids, size):
    slices, rest = cut_whole(ids, size)
    assert all(len(cut) == size for cut in slices)
    assert len(rest) < size
    assert [*itertools.chain.from_iterable(slices), *rest] == ids


def test_1500_over_60_tasks_are_60_slices_of_25():
    assert [len(cut) for cut in cut_evenly(range(1500), 60, 500)] == [25] * 60


def test_nobody_makes_no_slice():
    assert cut_evenly([], 60, 500) == []


@pytest.mark.parametrize(
    ("last", "ids", "found"),
    [
        (None, [], None),
        (None, [-3, 0, 7], None),
        (None, [0], None),
        (6, [7, 8], None),
        (7, [7, 8], 7),
        (0, [0], 0),
        (None, [1, 2, 2, 1], 2),
        (None, [5, 3], 3),
    ],
)
def test_the_first_id_that_does_not_ascend_is_named(last, ids, found):
    assert not_ascending(last, ids) == found
