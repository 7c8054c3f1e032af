"""Whose turn it is: tasks dealt out among accounts, and within one among its jobs.

A small job is not stuck behind a large one, nor an account's behind another's, whatever keeps that waiting.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asking:
    """A job that has slices for tasks."""

    job_no: int
    account: str
    slices: int
    """How many are open and due."""


Busy = Mapping[int, tuple[str, int]]
"""Job number to its account, and how many tasks work on it now."""


def deal(idle: int, asking: Sequence[Asking], busy: Busy) -> dict[int, int]:
    """Give `idle` tasks to jobs, one after the other, to who has the fewest: job number to share.

    Of equals the earlier in `asking` goes first.
    """
    of_account = _tasks_by_account(busy)
    queues: dict[str, list[tuple[int, int, Asking]]] = {}
    for place, one in enumerate(asking):
        if one.slices:
            has = busy[one.job_no][1] if one.job_no in busy else 0
            queues.setdefault(one.account, []).append((has, place, one))
    for queue in queues.values():
        heapq.heapify(queue)
    shares: Counter[int] = Counter()
    for _ in range(idle):
        if not queues:
            break
        # The accounts are few, the jobs may be a hundred thousand.
        account = min(queues, key=lambda name: (of_account[name], queues[name][0][:2]))
        has, place, one = heapq.heappop(queues[account])
        shares[one.job_no] += 1
        of_account[account] += 1
        if shares[one.job_no] < one.slices:
            heapq.heappush(queues[account], (has + 1, place, one))
        elif not queues[account]:
            del queues[account]
    return dict(shares)


def to_give_up(tasks: int, asking: Sequence[Asking], busy: Busy) -> dict[int, int]:
    """How many tasks each job should give up so that who asks comes to its share: job number to number.

    A share is what `deal` would give of all `tasks`. Nothing is moved for a task or two, and a job keeps its
    last one unless its account has too many.
    """
    fair = deal(tasks, _all_at_work(asking, busy), {})
    has = {job_no: n for job_no, (_, n) in busy.items()}
    missing = sum(max(0, fair.get(one.job_no, 0) - has.get(one.job_no, 0)) for one in asking)
    starved = any(one.job_no not in has for one in asking)
    if not starved and missing < max(2, tasks // 10):
        return {}
    accounts = {one.job_no: one.account for one in asking} | {no: name for no, (name, _) in busy.items()}
    fair_of_account = _tasks_by_account({no: (accounts[no], n) for no, n in fair.items()})
    of_account = _tasks_by_account(busy)
    over = {}
    for job_no, n in has.items():
        account = accounts[job_no]
        least = 0 if of_account[account] > fair_of_account[account] else 1
        over[job_no] = n - max(least, fair.get(job_no, 0))
    return _largest_first({job_no: n for job_no, n in over.items() if n > 0}, missing)


def _all_at_work(asking: Sequence[Asking], busy: Busy) -> list[Asking]:
    """Everybody with all its slices: those that are open, and those that tasks have."""
    slices = {job_no: Asking(job_no, account, n) for job_no, (account, n) in busy.items()}
    for one in asking:
        has = busy[one.job_no][1] if one.job_no in busy else 0
        slices[one.job_no] = Asking(one.job_no, one.account, one.slices + has)
    return list(slices.values())


def _tasks_by_account(busy: Busy) -> Counter[str]:
    tasks: Counter[str] = Counter()
    for account, n in busy.values():
        tasks[account] += n
    return tasks


def _largest_first(over: Mapping[int, int], most: int) -> dict[int, int]:
    given: dict[int, int] = {}
    for job_no, n in sorted(over.items(), key=lambda one: -one[1]):
        given[job_no] = min(n, most)
        most -= given[job_no]
        if not most:
            break
    return given


class Order:
    """Who comes first among equals: who has waited longest for a turn. No step looks at all there are."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._next = itertools.count()

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def join(self, job_no: int) -> None:
        """Come in at the end; who is there already stays where it is."""
        if job_no not in self._places:
            self._places[job_no] = next(self._next)

    def leave(self, job_no: int) -> None:
        """Need no turn any more."""
        self._places.pop(job_no, None)

    def turned(self, job_nos: Iterable[int]) -> None:
        """These just had a turn: they go to the end, in the order that they have."""
        for job_no in self.sorted(job_nos):
            self._places[job_no] = next(self._next)

    def sorted(self, job_nos: Iterable[int]) -> list[int]:
        """These, the first one first. Who is not there joins."""
        some = list(job_nos)
        for job_no in some:
            self.join(job_no)
        return sorted(some, key=self._places.__getitem__)
