"""A lane: one account's channel on its way to WeChat, with its own rate, number in flight, and holds.

The number in flight adapts itself: a burst of trouble halves it at once, and while all is well it grows
again, slowly. Nobody has to guess what WeChat bears today.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import structlog

from broadcastd.clock import Clock
from broadcastd.retry import Backoff

log = structlog.get_logger()

WINDOW_S = 1.0
"""Trouble is judged over this long: a burst, not a blip."""

BURST = 5
"""Troubled calls within a window, and a share of BURST_SHARE, that halve the number in flight."""

BURST_SHARE = 0.2
LEAST_IN_FLIGHT = 8
"""It falls no lower by itself: trouble that has nothing to do with our pace must not stop everything."""

WELL_SHARE = 0.01
"""At most so much trouble in a window lets the number grow."""

GROWTH = 16
"""It grows by a sixteenth of itself a window, by one at the least."""

LOOK_S = 0.2
"""How often a lane whose head waits for a time looks again: a rate may be changed meanwhile."""

HOLD_PAUSES = Backoff(first_s=60, longest_s=3600, jitter=0)
"""Until a held lane is tried again with one call, where nothing says when it is worth it."""


class HoldOf(Enum):
    """Why a lane is held."""

    QUOTA = "quota"  # goes on by itself when it is back
    OPERATOR = "operator"  # somebody must mend it; tried again now and then


@dataclass(frozen=True, slots=True)
class LaneHold:
    """A lane that nobody may use until `until_s` (monotonic); then one call at a time tries it."""

    kind: HoldOf
    reason: str
    until_s: float
    note: str = ""
    """When somebody looks whether it is over, in plain words."""


@dataclass(slots=True)
class _Waiter:
    may_ask: Callable[[], bool]
    admitted: "asyncio.Future[bool]"


class Lane:
    """Everybody who calls WeChat on this channel enters it first. `run` must be running."""

    def __init__(
        self, account: str, channel: str, clock: Clock, most: int, rate_per_s: float | None = None
    ) -> None:
        self._clock = clock
        self._account = account
        self.channel = channel
        self.most = most
        """What the number in flight never exceeds; changeable."""
        self.rate_per_s = rate_per_s
        """None: unlimited; changeable."""
        self.limit = most
        """The present number in flight at most."""
        self.in_flight = 0
        self.hold: LaneHold | None = None
        self._holds_in_a_row = 0
        self._closed_until_s = 0.0
        self._closed_for = ""
        self._next_s = 0.0
        self._window_ends_s = 0.0
        self._calls = self._troubled = self._peak = 0
        self._cut = False
        self._waiting: deque[_Waiter] = deque()
        self._wake = asyncio.Event()

    # -- going in and out ------------------------------------------------------------------------------

    async def enter(self, may_ask: Callable[[], bool]) -> bool:
        """Wait for a place. True: make one call, then `leave`. False: `may_ask` said no meanwhile."""
        if not self._waiting and not self._pause_s():
            if not may_ask():
                return False
            self._admit()
            return True
        waiter = _Waiter(may_ask, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._wake.set()
        try:
            return await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled() and waiter.admitted.result():
                self.leave()
            raise

    def leave(self) -> None:
        """The call has come back, or was not made."""
        self.in_flight -= 1
        if self._waiting:
            self._wake.set()

    def look(self) -> None:
        """Let those go who may not ask any more: a job stands still."""
        for waiter in self._waiting:
            if not waiter.admitted.done() and not waiter.may_ask():
                waiter.admitted.set_result(False)
        self._wake.set()

    async def run(self) -> None:
        """Admit who waits, in the order they came."""
        while True:
            pause_s = self._serve()
            if pause_s is None:
                self._wake.clear()
                await self._wake.wait()
            else:
                await self._clock.sleep(min(LOOK_S, pause_s))

    def _serve(self) -> float | None:
        """Admit who can be; how long until it is worth looking again. None: something will wake it."""
        while self._waiting:
            head = self._waiting[0]
            if not head.admitted.done() and head.may_ask():
                pause_s = self._pause_s()
                if pause_s:
                    return None if pause_s == math.inf else pause_s
                self._admit()
                head.admitted.set_result(True)
            elif not head.admitted.done():
                head.admitted.set_result(False)
            self._waiting.popleft()
        return None

    def _pause_s(self) -> float:
        """How long until one more may go; infinite while it depends on one that is in flight."""
        now_s = self._clock.monotonic_s()
        # A held lane that is worth a try again is tried by one at a time.
        room = 1 if self.hold is not None else self.limit
        if self.in_flight >= room:
            return math.inf
        begins_s = max(self._closed_until_s, 0.0 if self.hold is None else self.hold.until_s)
        if self.rate_per_s is not None:
            begins_s = max(begins_s, self._next_s)
        return max(0.0, begins_s - now_s)

    def _admit(self) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        if self.rate_per_s is not None:
            now_s = self._clock.monotonic_s()
            # What was not used for a while is not made up for in one burst.
            self._next_s = max(self._next_s, now_s - LOOK_S) + 1 / self.rate_per_s

    # -- what calls tell -------------------------------------------------------------------------------

    def note(self, *, troubled: bool) -> None:
        """A call has come back: -1, 45011, HTTP 5xx and timeouts are trouble."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._window_ends_s:
            self._next_window(now_s)
        self._calls += 1
        if troubled:
            self._troubled += 1
            if not self._cut and self._troubled >= max(BURST, BURST_SHARE * self._calls):
                self._cut = True
                self._fall()

    def _fall(self) -> None:
        lower = max(LEAST_IN_FLIGHT, min(self.limit, self._peak) // 2)
        if lower < self.limit:
            self.limit = lower
            log.warning("channel_slowed", account=self._account, channel=self.channel, in_flight=lower)

    def _next_window(self, now_s: float) -> None:
        if self._calls and self._troubled <= WELL_SHARE * self._calls and self.limit < self.most:
            self.limit = min(self.most, self.limit + max(1, self.limit // GROWTH))
            self._wake.set()
        self._window_ends_s = now_s + WINDOW_S
        self._calls = self._troubled = 0
        self._peak = self.in_flight
        self._cut = False

    def close(self, pause_s: float, reason: str) -> None:
        """Let nobody in for a moment; who waits, waits."""
        self._closed_until_s = max(self._closed_until_s, self._clock.monotonic_s() + pause_s)
        self._closed_for = reason

    # -- holds -----------------------------------------------------------------------------------------

    @property
    def held(self) -> LaneHold | None:
        """The hold, while it is not worth a try."""
        hold = self.hold
        return hold if hold is not None and hold.until_s > self._clock.monotonic_s() else None

    @property
    def reason(self) -> str:
        """Why it does not take calls just now; empty when it does."""
        if self.hold is not None:
            return "; ".join(filter(None, (self.hold.reason, self.hold.note)))
        return self._closed_for if self._closed_until_s > self._clock.monotonic_s() else ""

    def put_on_hold(self, kind: HoldOf, reason: str, pause_s: float | None = None) -> LaneHold:
        """Hold it for `pause_s`, or for a pause that grows. Those in flight when it began change nothing."""
        if self.held is not None:
            return self.held
        if self.hold is None:
            self._holds_in_a_row = 0
            log.error("channel_held", account=self._account, channel=self.channel, reason=reason)
        self._holds_in_a_row += 1
        pause_s = pause_s or HOLD_PAUSES.delay_s(self._holds_in_a_row)
        self.hold = LaneHold(kind, reason, self._clock.monotonic_s() + pause_s)
        self.look()
        return self.hold

    def hold_until(self, until_s: float, note: str = "") -> None:
        """It is known when a try is worth it."""
        if self.hold is not None:
            self.hold = LaneHold(self.hold.kind, self.hold.reason, until_s, note)
            self._wake.set()

    def hold_longer(self, note: str = "") -> None:
        """Nobody can tell any more when a try is worth it: after a pause that grows."""
        self._holds_in_a_row += 1
        self.hold_until(self._clock.monotonic_s() + HOLD_PAUSES.delay_s(self._holds_in_a_row), note)

    def try_now(self) -> None:
        """Somebody says that it is mended: one call tries."""
        self.hold_until(self._clock.monotonic_s())

    def release(self) -> bool:
        """End a hold: a call has passed, or somebody says that it is mended; whether there was one."""
        was_held = self.hold is not None
        self.hold = None
        if was_held:
            log.info("channel_goes_on", account=self._account, channel=self.channel)
            self._wake.set()
        return was_held

    def change(self, rate_per_s: float | None, most: int) -> None:
        """Another rate and another number in flight at most, from now on."""
        self.rate_per_s = rate_per_s
        self._next_s = 0.0
        self.limit = most if self.limit >= self.most else min(self.limit, most)
        self.most = most
        self._wake.set()
