from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.turns import deal, rotated

OPEN = st.dictionaries(st.integers(1, 9), st.integers(0, 80), max_size=6)


@given(st.integers(0, 100), OPEN)
def test_as_many_as_can_work_do_and_nobody_gets_more_than_there_is(idle, open_slices):
    shares = deal(idle, open_slices, list(open_slices))
    assert sum(shares.values()) == min(idle, sum(open_slices.values()))
    assert all(1 <= share <= open_slices[job] for job, share in shares.items())


@given(st.integers(0, 100), OPEN)
def test_a_job_gets_less_than_another_only_when_it_has_no_more(idle, open_slices):
    shares = deal(idle, open_slices, list(open_slices))
    most = max(shares.values(), default=0)
    for job, has in open_slices.items():
        assert shares.get(job, 0) >= min(has, most - 1)


def test_a_small_job_is_not_stuck_behind_a_large_one():
    assert deal(60, {1: 2000, 2: 1}, [1, 2]) == {1: 59, 2: 1}


def test_who_is_first_in_the_order_gets_the_odd_one():
    assert deal(3, {1: 9, 2: 9}, [2, 1]) == {2: 2, 1: 1}


def test_jobs_that_are_not_in_the_order_get_nothing():
    assert deal(5, {1: 9, 2: 9}, [2]) == {2: 5}


def test_who_had_a_turn_goes_to_the_end():
    assert rotated([1, 2, 3, 4], [2, 1]) == [3, 4, 1, 2]


def test_with_one_task_two_jobs_take_turns():
    order, served = [1, 2], []
    for _ in range(4):
        shares = deal(1, {1: 9, 2: 9}, order)
        served += shares
        order = rotated(order, list(shares))
    assert served == [1, 2, 1, 2]
