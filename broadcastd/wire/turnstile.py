"""Spaces out what callers could ask for without end, so that the loop has time for everybody else."""

import asyncio

FRAMES_PER_S, FRAMES_AT_ONCE = 50, 300
"""Of all connections; their first frames and accepted broadcasts are not counted. Costs 1 to 2 % of a CPU."""
LINES_PER_S, LINES_AT_ONCE = 5, 100
"""Of all `tail` and `drain` that go on: each looks into the ledger, 1 to 2 ms."""


class Turnstile:
    """Lets so many through a second, in the order in which they came; a few at once after a quiet while."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self._gap_s = 1 / per_s
        self._slack_s = at_once / per_s
        self._free_at = 0.0

    async def passed(self) -> None:
        """Wait for one's turn. Even without a wait, everybody else who is ready comes first."""
        await asyncio.sleep(self.wait_s(asyncio.get_running_loop().time()))

    def wait_s(self, now_s: float) -> float:
        """Take the next turn; how long it is until then."""
        self._free_at = max(self._free_at, now_s - self._slack_s) + self._gap_s
        return max(0.0, self._free_at - now_s)


class Turnstiles:
    """What all connections share."""

    def __init__(self) -> None:
        self.frames = Turnstile(FRAMES_PER_S, FRAMES_AT_ONCE)
        self.lines = Turnstile(LINES_PER_S, LINES_AT_ONCE)
