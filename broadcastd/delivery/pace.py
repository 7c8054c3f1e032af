"""How many sends a task keeps in flight: no more than rate x latency needs.

More than that only makes each slower: at no latency 1 a task runs at full rate and 4 at 0.7 of it. The
latency that counts is the shortest of late, since the longer ones include waiting for our own loop.
"""

import math

AT_START = 8
"""A task's sends in flight before any latency is known: the smallest write-ahead chunk anyway."""

WINDOW_S = 5.0
"""The shortest latency is forgotten after this long, so that a slower API is noticed."""


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
            self.note(now_s, latency_s)

    def note(self, now_s: float, latency_s: float) -> None:
        """A send of several that go out one after the other came back."""
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
