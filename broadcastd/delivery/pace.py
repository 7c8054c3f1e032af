"""How many sends a task keeps in flight: no more than rate x latency needs.

More than that only makes each slower: at no latency 1 a task runs at full rate and 4 at 0.7 of it. The
latency that counts is that of the quick ones: a fifth of a batch of answers comes as soon, and of the batches
of late the quickest counts, since the longer latencies include waiting for our own loop. A single answer that
comes at once says nothing of the others.
"""

import math
from collections.abc import Sequence

AT_START = 8
"""A task's sends in flight before any latency is known: the smallest write-ahead chunk anyway."""

WINDOW_S = 5.0
"""The shortest latency is forgotten after this long, so that a slower API is noticed."""

BATCH = 50
"""Answers that are judged together …"""
BATCH_S = 0.25
"""… or as many as have come in so long."""
QUICK_SHARE = 0.2
"""At no latency that is still well below the mean, so that a loop that is full does not fill further."""


class Pace:
    """Watches latencies; `sends_per_task` is the present number."""

    def __init__(self, tasks: int, ceiling: int, full_rate_per_s: int, chunk: int) -> None:
        """`full_rate_per_s` and `chunk`: the transport's."""
        self._full_rate_per_s = full_rate_per_s
        self._chunk = chunk
        self._tasks = tasks
        self._ceiling = ceiling
        self._window_ends_s = 0.0
        self._shortest_s = math.inf
        self._shortest_before_s = math.inf
        self._batch_s: list[float] = []
        self._batch_ends_s = 0.0
        self.sends_per_task: int = min(AT_START, ceiling)
        self.in_flight = 0

    @property
    def chunk_size(self) -> int:
        """How many recipients of a slice are let through by one mark."""
        return max(self._chunk, self.sends_per_task)

    def started(self) -> None:
        """A send goes out."""
        self.in_flight += 1

    def ended(self, now_s: float, latency_s: float | None) -> None:
        """A send came back after `latency_s`; None: it was not made after all."""
        self.in_flight -= 1
        if latency_s is not None:
            self.note(now_s, [latency_s])

    def note(self, now_s: float, latencies_s: Sequence[float]) -> None:
        """Sends of those that go out one after the other came back, after so long each."""
        self._batch_s += latencies_s
        if now_s < self._batch_ends_s and len(self._batch_s) < BATCH:
            return
        batch_s, self._batch_s = sorted(self._batch_s), []
        self._batch_ends_s = now_s + BATCH_S
        self._judge(now_s, batch_s[int(QUICK_SHARE * len(batch_s))])

    def _judge(self, now_s: float, latency_s: float) -> None:
        if now_s >= self._window_ends_s:
            self._window_ends_s = now_s + WINDOW_S
            self._shortest_before_s = self._shortest_s
            self._shortest_s = latency_s
        elif latency_s < self._shortest_s:
            self._shortest_s = latency_s
        else:
            return
        needed = self._full_rate_per_s * min(self._shortest_s, self._shortest_before_s) / self._tasks
        self.sends_per_task = max(1, min(self._ceiling, math.ceil(needed)))
