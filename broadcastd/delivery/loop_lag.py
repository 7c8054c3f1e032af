"""How late the event loop is: whatever holds it up, holds up all."""

from collections import deque

from broadcastd.clock import Clock

EVERY_S = 0.25
WINDOW_S = 60.0


class LoopLag:
    """`run` must be running."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()
        self.last_s = 0.0
        """At the last look."""
        self.wait()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.wait()
            await self._clock.sleep(EVERY_S)
            self.note()

    def wait(self) -> None:
        """The next look is due a moment from now."""
        self._due_s = self._clock.monotonic_s() + EVERY_S

    def note(self) -> None:
        """It has come."""
        now_s = self._clock.monotonic_s()
        self.last_s = max(0.0, now_s - self._due_s)
        # The longest of the window stands first: what is older than a new one and no longer is of no use.
        while self._seen and self._seen[-1][1] <= self.last_s:
            self._seen.pop()
        self._seen.append((now_s, self.last_s))
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self._seen and self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()

    @property
    def most_s(self) -> float:
        """The longest of the last minute, the present look included."""
        now_s = self._clock.monotonic_s()
        self._forget(now_s)
        return max(self._seen[0][1] if self._seen else 0.0, self.overdue_s)

    @property
    def overdue_s(self) -> float:
        """For how long the loop has not come round, beyond what it should take; not below 0."""
        return max(0.0, self._clock.monotonic_s() - self._due_s)

    @property
    def kept(self) -> int:
        """How many looks it remembers."""
        return len(self._seen)
