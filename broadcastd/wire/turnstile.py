"""Spaces out what one caller could ask for without end, so that the loop has time for everybody else."""

import asyncio


class Turnstile:
    """Lets so many through a second, in the order in which they came; a few at once after a quiet while."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self._gap_s = 1 / per_s
        self._slack_s = at_once / per_s
        self._free_at = 0.0

    async def passed(self) -> None:
        """Wait for one's turn. Even without a wait, everybody else who is ready comes first."""
        now_s = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now_s - self._slack_s) + self._gap_s
        await asyncio.sleep(max(0.0, self._free_at - now_s))
