import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.cutting import (
    SMALLEST_SLICE,
    Cutter,
    NotAscendingError,
    cut_evenly,
    cut_whole,
    not_ascending,
)
from broadcastd.frozen import unpack_ids

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


@given(st.lists(st.integers(0, 700), max_size=12), st.integers(1, 8), st.integers(1, 50))
def test_everybody_who_came_in_blocks_is_in_exactly_one_slice(sizes, tasks, size):
    cutter, number, slices = Cutter(None, tasks, size), itertools.count(1), []
    for block in sizes:
        cutter.add(list(itertools.islice(number, block)))
        assert not cutter.ready or cutter.ready >= tasks
        slices += cutter.take()
    slices += cutter.take_rest()
    ids = [one for cut in slices for one in unpack_ids(cut.packed)]
    assert ids == list(range(1, sum(sizes) + 1))
    assert all(len(cut) <= size for cut in slices)
    ends = [one for cut in slices for one in (cut.first, cut.last)]
    assert ends == sorted(ends)


def test_nothing_is_cut_before_all_tasks_have_work():
    cutter = Cutter(None, 3, 10)
    cutter.add(range(29))
    assert cutter.ready == 0
    assert sorted(len(cut) for cut in cutter.take_rest()) == [9, 10, 10]


@pytest.mark.parametrize(
    ("last", "blocks", "found"),
    [
        (7, [[7, 8]], 7),
        (None, [[1, 2], [2, 3]], 2),
        (None, [[1, 2, 3, 4], [4, 5]], 4),
        (None, [[1, 2, 2]], 2),
        (None, [[1, 3, 2]], 2),
        (None, [[1, 1000, 999]], 999),
    ],
)
def test_an_id_that_does_not_ascend_is_named_wherever_it_comes(last, blocks, found):
    def cut():
        cutter = Cutter(last, 1, 2)
        for block in blocks:
            cutter.add(block)
        cutter.take_rest()

    with pytest.raises(NotAscendingError) as error:
        cut()
    assert error.value.repeated == found
