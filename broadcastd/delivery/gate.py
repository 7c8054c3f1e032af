"""An account's gate to WeChat: closed for a while when calls fail one after the other.

Without it a minute's outage would run through the whole audience, and each recipient would use up tries. When
it opens again after that, one call goes first: what is still not answered puts one recipient in doubt, not
as many as there are tasks.
"""

import structlog

from broadcastd.clock import Clock
from broadcastd.retry import Backoff

log = structlog.get_logger()

FAILURES_TO_CLOSE = 20
"""In a row, over all tasks of the account: more than chance, far fewer than one chunk of every task."""

PAUSES = Backoff(first_s=1, longest_s=30)
LOOK_S = 0.2
"""How often who waits looks whether it is told to stop."""


class Gate:
    """Open; closed until a moment, with a reason in plain words; or ajar: one call at a time tries it."""

    def __init__(self, clock: Clock, account: str = "") -> None:
        self._clock = clock
        self._account = account
        self._failures = 0
        self._closings = 0
        self._opens_at_s = 0.0
        self._reason = ""
        self._trying = False

    @property
    def reason(self) -> str:
        """Why it is not open; empty while it is."""
        return self._reason if self.closed or self._closings else ""

    @property
    def closed(self) -> bool:
        """Whether nobody may pass now."""
        return self._opens_at_s > self._clock.monotonic_s()

    def is_wide_open(self, now_s: float) -> bool:
        """Whether as many as want to may pass at `now_s` (monotonic)."""
        return not self._closings and self._opens_at_s <= now_s

    def enter(self) -> bool:
        """Whether the caller may make a call now; then it must `leave`."""
        if self.closed or (self._closings and self._trying):
            return False
        self._trying = True
        return True

    def leave(self) -> None:
        """The call has come back, or was not made after all."""
        self._trying = False

    async def wait(self) -> None:
        """Return when it may be open, or after a moment, so that the caller can look whether to stop."""
        left_s = self._opens_at_s - self._clock.monotonic_s()
        await self._clock.sleep(min(LOOK_S, left_s) if left_s > 0 else LOOK_S)

    def passed(self) -> None:
        """A call was answered: all is well."""
        if not self._failures and not self._closings:
            return
        if self._closings:
            log.info("wechat_answers_again", account=self._account)
        self._failures = self._closings = 0

    def failed(self, reason: str) -> None:
        """A call was refused or not answered; many in a row close the gate for a growing pause."""
        self._failures += 1
        if self.closed or (self._failures < FAILURES_TO_CLOSE and not self._closings):
            return
        self._failures = 0
        self._closings += 1
        pause_s = PAUSES.delay_s(self._closings)
        if self._closings == 1:
            log.error("channel_held", account=self._account, reason=reason, calls_in_a_row=FAILURES_TO_CLOSE)
        self.close(pause_s, reason)

    def set_ajar(self, reason: str) -> None:
        """Let one call at a time try it, from now on, until one is answered."""
        self._opens_at_s = 0.0
        self._closings = max(1, self._closings)
        self._reason = reason

    def close(self, pause_s: float, reason: str, *, then_one_by_one: bool = False) -> None:
        """Let nobody pass for `pause_s`."""
        if then_one_by_one:
            self._closings = max(1, self._closings)
        self._opens_at_s = max(self._opens_at_s, self._clock.monotonic_s() + pause_s)
        self._reason = reason
