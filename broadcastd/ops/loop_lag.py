"""How late the event loop is: whatever holds it up, holds up all."""

from collections import deque

from broadcastd.clock import Clock

EVERY_S = 0.25
WINDOW_S = 60.0


class LoopLag:
    """`run` must be running."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_s = clock.monotonic_s() + EVERY_S
        self._seen: deque[tuple[float, float]] = deque()
        self.last_s = 0.0
        """At the last look."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._due_s = self._clock.monotonic_s() + EVERY_S
            await self._clock.sleep(EVERY_S)
            self.note(self._clock.monotonic_s())

    def note(self, now_s: float) -> None:
        """It has woken up."""
        self.last_s = max(0.0, now_s - self._due_s)
        # The longest of the window stands first: whatever is shorter and older than a new one is of no use.
        while self._seen and self._seen[-1][1] <= self.last_s:
            self._seen.pop()
        self._seen.append((now_s, self.last_s))

    @property
    def most_s(self) -> float:
        """The longest of the last minute."""
        since_s = self._clock.monotonic_s() - WINDOW_S
        while self._seen and self._seen[0][0] < since_s:
            self._seen.popleft()
        return self._seen[0][1] if self._seen else 0.0
