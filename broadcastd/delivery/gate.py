"""An account's gate to WeChat: closed for a while when calls fail one after the other.

Without it a minute's outage would run through the whole audience, and each recipient would use up tries.
"""

from broadcastd.clock import Clock
from broadcastd.retry import Backoff

FAILURES_TO_CLOSE = 20
"""In a row, over all tasks of the account: more than chance, far fewer than one chunk of every task."""

PAUSES = Backoff(first_s=1, longest_s=30)
LOOK_S = 0.2
"""How often who waits looks whether it is told to stop."""


class Gate:
    """Open, or closed until a moment with a reason in plain words."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._closings = 0
        self._opens_at_s = 0.0
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why it is closed; empty while it is open."""
        return self._reason if self.closed else ""

    @property
    def closed(self) -> bool:
        """Whether nobody may pass now."""
        return self._opens_at_s > self._clock.monotonic_s()

    async def wait(self) -> None:
        """Return when it may be open, or after a moment, so that the caller can look whether to stop."""
        await self._clock.sleep(min(LOOK_S, max(0.0, self._opens_at_s - self._clock.monotonic_s())))

    def passed(self) -> None:
        """A call was answered: all is well."""
        self._failures = 0
        self._closings = 0

    def failed(self, reason: str) -> None:
        """A call was refused or not answered; many in a row close the gate for a growing pause."""
        self._failures += 1
        if self._failures >= FAILURES_TO_CLOSE and not self.closed:
            self._failures = 0
            self._closings += 1
            self.close(PAUSES.delay_s(self._closings), reason)

    def close(self, pause_s: float, reason: str) -> None:
        """Let nobody pass for `pause_s`."""
        self._opens_at_s = max(self._opens_at_s, self._clock.monotonic_s() + pause_s)
        self._reason = reason
