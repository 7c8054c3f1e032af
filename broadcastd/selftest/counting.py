"""After the faults: wait until the jobs have ended, then count on both sides."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from broadcastd.errors import NoDaemonError
from broadcastd.selftest.bench import Bench
from broadcastd.selftest.books import Books, read_books
from broadcastd.selftest.counts import JobCount
from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.payer import Order
from broadcastd.selftest.verdicts import TERMINAL

LOOK_S = 0.3
NO_PROGRESS_S = 120.0
"""Twice the longest pause of the daemon (60 s)."""

SHOWN_LOST = 3


def wait_ended(bench: Bench) -> None:
    """Return when every accepted job has ended; what is held is resumed, as an operator would.

    Raises SelftestStoppedError when nothing moves any more.
    """
    waiting = [order for order in bench.payer.orders if order.job is not None]
    most_ended, gives_up_at = -1, time.monotonic() + NO_PROGRESS_S
    while waiting:
        try:
            views = {order.key: bench.payer.ask({"op": "job", "job": order.job}) for order in waiting}
            left = [order for order in waiting if _goes_on(bench, views[order.key])]
        except NoDaemonError:
            bench.daemon.revive()
        else:
            # Only this is progress: a job that is held and resumed again and again makes none.
            if len(left) < len(waiting) or _ended(views, left) > most_ended:
                most_ended, gives_up_at = _ended(views, left), time.monotonic() + NO_PROGRESS_S
            waiting = left
        if waiting and time.monotonic() > gives_up_at:
            raise SelftestStoppedError(f"{_names(waiting)} do not end: nothing moves for {NO_PROGRESS_S:g} s")
        time.sleep(LOOK_S)


def _ended(views: dict[str, dict[str, Any]], orders: list[Order]) -> int:
    return sum(views[order.key]["books"]["ended"] for order in orders if views[order.key]["ok"])


def _goes_on(bench: Bench, view: dict[str, Any]) -> bool:
    """Whether the job has not ended. One that the daemon does not know is not waited for: it is counted."""
    if not view["ok"]:
        return bool(view["retry"])
    if view["state"] == "held":
        bench.payer.ask({"op": "resume", "job": view["job"]})
    return view["state"] not in TERMINAL


def _names(orders: Iterable[Order]) -> str:
    return ", ".join(order.key for order in orders)


def count(bench: Bench) -> tuple[list[JobCount], int]:
    """Every order as the receiving side and the books have it; and how many jobs the ledger holds."""
    books = read_books(bench.daemon.ledger)
    followers = dict(bench.site.openids())
    jobs = [_count(bench, order, books.get(order.key, []), followers) for order in bench.payer.orders]
    return jobs, sum(len(jobs) for jobs in books.values())


def _count(bench: Bench, order: Order, books: list[Books], followers: dict[int, str]) -> JobCount:
    received = bench.receiving.received(order.content)
    unknown = {one for job in books for one in job.unknown}
    lost = [who for one, who in followers.items() if who not in received and one not in unknown]
    seen = JobCount(
        order=order.key,
        job=order.job,
        recipients=len(followers),
        received=len(received),
        doubled=sum(received.values()) - len(received),
        lost=len(lost),
        lost_some=tuple(lost[:SHOWN_LOST]),
    )
    return seen if not books else _beside(seen, books[-1])


def _beside(seen: JobCount, books: Books) -> JobCount:
    return replace(
        seen,
        job=books.job,
        state=books.state,
        frozen=books.frozen,
        in_doubt=books.in_doubt,
        outcomes=books.outcomes,
    )
