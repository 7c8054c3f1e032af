from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broadcastd.delivery.turns import Asking, Order, deal, to_give_up

OPEN = st.dictionaries(st.integers(1, 9), st.integers(0, 80), max_size=6)
WORK = st.dictionaries(
    st.integers(1, 12), st.tuples(st.sampled_from("abc"), st.integers(0, 80), st.integers(0, 30)), max_size=12
)


def asking(slices, account="a"):
    return [Asking(job_no, account, n) for job_no, n in slices.items()]


def order_of(*job_nos):
    order = Order()
    for job_no in job_nos:
        order.join(job_no)
    return order


@given(st.integers(0, 100), OPEN)
def test_as_many_as_can_work_do_and_nobody_gets_more_than_there_is(idle, open_slices):
    shares = deal(idle, asking(open_slices), {})
    assert sum(shares.values()) == min(idle, sum(open_slices.values()))
    assert all(1 <= share <= open_slices[job] for job, share in shares.items())


@given(st.integers(0, 100), OPEN)
def test_a_job_gets_less_than_another_only_when_it_has_no_more(idle, open_slices):
    shares = deal(idle, asking(open_slices), {})
    most = max(shares.values(), default=0)
    for job, has in open_slices.items():
        assert shares.get(job, 0) >= min(has, most - 1)


def test_a_small_job_is_not_stuck_behind_a_large_one():
    assert deal(60, asking({1: 2000, 2: 1}), {}) == {1: 59, 2: 1}


def test_who_is_first_in_the_order_gets_the_odd_one():
    assert deal(3, asking({2: 9, 1: 9}), {}) == {2: 2, 1: 1}


def test_who_has_fewer_tasks_now_comes_first():
    assert deal(4, asking({1: 9, 2: 9}), {1: ("a", 6), 2: ("a", 2)}) == {2: 4}


def test_accounts_come_before_jobs():
    many = asking(dict.fromkeys(range(1, 11), 9))
    shares = deal(10, [*many, Asking(11, "b", 9)], {})
    assert shares[11] == 5


def test_who_had_a_turn_goes_to_the_end():
    order = order_of(1, 2, 3, 4)
    order.turned([2, 1])
    assert order.sorted([1, 2, 3, 4]) == [3, 4, 1, 2]


def test_who_joins_again_keeps_its_place_and_who_left_comes_last():
    order = order_of(1, 2, 3)
    order.join(1)
    order.leave(2)
    order.leave(9)
    assert order.sorted([3, 2, 1]) == [1, 3, 2]
    assert list(order) == [1, 3, 2]


def test_with_one_task_two_jobs_take_turns():
    order, served = order_of(1, 2), []
    for _ in range(4):
        shares = deal(1, asking(dict.fromkeys(order.sorted([2, 1]), 9)), {})
        served += shares
        order.turned(shares)
    assert served == [1, 2, 1, 2]


# -- giving up ---------------------------------------------------------------------------------------------


def test_a_new_job_comes_to_half_of_the_tasks():
    assert to_give_up(60, asking({2: 500}), {1: ("a", 60)}) == {1: 30}


def test_a_new_job_gets_no_more_than_it_can_use():
    assert to_give_up(60, asking({2: 3}), {1: ("a", 60)}) == {1: 3}


def test_an_account_comes_to_half_however_many_jobs_the_other_has():
    busy = dict.fromkeys(range(60), ("a", 1))
    given_up = to_give_up(60, [Asking(99, "b", 500)], busy)
    assert sum(given_up.values()) == 30


def test_within_an_account_a_job_keeps_its_last_task():
    busy = dict.fromkeys(range(60), ("a", 1))
    assert to_give_up(60, asking(dict.fromkeys(range(60, 90), 5)), busy) == {}


def test_nothing_is_moved_for_a_task_or_two():
    assert to_give_up(60, asking({2: 500}), {1: ("a", 32), 2: ("a", 28)}) == {}


@given(st.integers(1, 60), WORK)
def test_what_is_given_up_leads_to_shares_with_which_all_are_content(tasks, work):
    busy, left = {}, tasks
    for job_no, (account, _, n) in work.items():
        if n and left:
            busy[job_no] = (account, min(n, left))
            left -= busy[job_no][1]
    if left:
        return  # idle tasks are dealt first
    asks = [Asking(job_no, account, n) for job_no, (account, n, _) in work.items() if n]
    given_up = to_give_up(tasks, asks, busy)
    assert all(0 < n <= busy[job_no][1] for job_no, n in given_up.items())
    after = {no: (account, n - given_up.get(no, 0)) for no, (account, n) in busy.items()}
    after = {no: one for no, one in after.items() if one[1]}
    room = dict(given_up)
    again = [Asking(one.job_no, one.account, one.slices + room.pop(one.job_no, 0)) for one in asks]
    again += [Asking(no, busy[no][0], n) for no, n in room.items()]
    dealt = Counter(deal(sum(given_up.values()), again, after))
    now = {no: (work[no][0], after.get(no, ("", 0))[1] + dealt[no]) for no in work}
    now = {no: one for no, one in now.items() if one[1]}
    got = {no: now.get(no, ("", 0))[1] - busy.get(no, ("", 0))[1] for no in work}
    rest = [Asking(one.job_no, one.account, one.slices - max(0, got[one.job_no])) for one in asks]
    assert to_give_up(tasks, [one for one in rest if one.slices > 0], now) == {}, "else it goes on for ever"
