"""A lane: one account's channel on its way to WeChat, with its own rate, number in flight, and holds.

The number in flight adapts itself (`limit`), and nothing but -1 closes it to all but one (`outage`). Nobody
has to guess what WeChat bears today.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.limit import Limit
from broadcastd.delivery.outage import Outage
from broadcastd.errcodes import in_words
from broadcastd.metrics import Calls
from broadcastd.retry import Backoff

log = structlog.get_logger()

LOOK_S = 0.2
"""How often a lane whose head waits for a time looks again: a rate may be changed meanwhile."""

BUSY_REASON = f"nothing but {in_words(-1)}"
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
    admitted: "asyncio.Future[int]"


class Lane:
    """Everybody who calls WeChat on this channel enters it first. `run` must be running."""

    def __init__(
        self, account: str, channel: str, clock: Clock, most: int, rate_per_s: float | None = None
    ) -> None:
        self._clock = clock
        self._account = account
        self.channel = channel
        self.calls = Calls()
        """What came back so far."""
        self._limit = Limit(clock, most)
        self._outage = Outage(clock)
        self.rate_per_s = rate_per_s
        """None: unlimited; changeable."""
        self.hold: LaneHold | None = None
        self._holds_in_a_row = 0
        self._closed_until_s = 0.0
        self._closed_for = ""
        self._next_s = 0.0
        self._waiting: deque[_Waiter] = deque()
        self.admitted_s = -math.inf
        """When somebody was last let in (monotonic)."""
        self._wake = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._limit.in_flight

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @property
    def limit(self) -> int:
        """How many may be under way just now."""
        return self._limit.present

    @property
    def most(self) -> int:
        """How many may ever be under way; changeable."""
        return self._limit.most

    # -- going in and out ------------------------------------------------------------------------------

    async def enter(self, may_ask: Callable[[], bool], *, first: bool = False) -> int:
        """Wait for a place. Make one call, then `leave` with this number. 0: `may_ask` said no meanwhile.

        `first`: before all who wait.
        """
        if (first or not self._waiting) and not self._pause_s():
            return self._admit() if may_ask() else 0
        waiter = _Waiter(may_ask, asyncio.get_running_loop().create_future())
        if first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)
        self._wake.set()
        try:
            return await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled() and waiter.admitted.result():
                self.leave(waiter.admitted.result())
            raise

    def enter_at_once(self) -> int:
        """A place to make one call after the other (`another`), or 0 when anything has to be waited for."""
        if self._waiting or self.rate_per_s is not None or self.hold is not None or self._pause_s():
            return 0
        return self._admit()

    def another(self, ticket: int, now_s: float) -> int:
        """The call has come back well; the number of the next one, or 0: the place is given up."""
        limit, outage = self._limit, self._outage
        if outage.in_a_row or outage.tries:
            self._judge_outage(busy=False)
        if (
            self._waiting
            or limit.in_flight > limit.present
            or self.rate_per_s is not None
            or self.hold is not None
            or self._closed_until_s > now_s
        ):
            self.leave(ticket, troubled=False)
            return 0
        self.admitted_s = now_s
        before = limit.present
        ticket = limit.another(ticket, now_s)
        if limit.present < before:
            self._log_slowed()
        return ticket

    def leave(self, ticket: int, *, troubled: bool | None = None, busy: bool | None = None) -> None:
        """The call has come back. `troubled`: -1, 45011, HTTP 5xx, a timeout; None: it was not made.

        `busy`: WeChat has answered, with -1 or something else.
        """
        before = self._limit.present
        self._limit.ended(ticket, troubled)
        if busy is not None:
            self._judge_outage(busy=busy)
        if self._limit.present < before:
            self._log_slowed()
        if self._waiting:
            self._wake.set()

    def _log_slowed(self) -> None:
        number = self._limit.present
        log.warning("channel_slowed", account=self._account, channel=self.channel, in_flight=number)

    def look(self) -> None:
        """Let those go who may not ask any more: a job stands still."""
        for waiter in self._waiting:
            if not waiter.admitted.done() and not waiter.may_ask():
                waiter.admitted.set_result(0)
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
                head.admitted.set_result(self._admit())
            elif not head.admitted.done():
                head.admitted.set_result(0)
            self._waiting.popleft()
        return None

    def _pause_s(self) -> float:
        """How long until one more may go; infinite while it depends on one that is in flight."""
        now_s = self._clock.monotonic_s()
        # What was held or out of order is tried by one at a time.
        room = 1 if self.hold is not None or self._outage.is_on else self._limit.present
        if self._limit.in_flight >= room:
            return math.inf
        begins_s = max(self._closed_until_s, 0.0 if self.hold is None else self.hold.until_s)
        if self.rate_per_s is not None:
            begins_s = max(begins_s, self._next_s)
        return max(0.0, begins_s - now_s)

    def _admit(self) -> int:
        self.admitted_s = self._clock.monotonic_s()
        if self.rate_per_s is not None:
            now_s = self._clock.monotonic_s()
            # What was not used for a while is not made up for in one burst.
            self._next_s = max(self._next_s, now_s - LOOK_S) + 1 / self.rate_per_s
        return self._limit.began()

    # -- an outage -------------------------------------------------------------------------------------

    def _judge_outage(self, *, busy: bool) -> None:
        if not busy:
            was_on = self._outage.is_on
            if self._outage.over():
                self._limit.fall()
            if was_on:
                if self._closed_for == BUSY_REASON:
                    self._closed_until_s = 0.0
                log.info("channel_answers_again", account=self._account, channel=self.channel)
            return
        was_on = self._outage.is_on
        pause_s = self._outage.busy()
        if pause_s is not None:
            self.close(pause_s, BUSY_REASON)
            if not was_on:
                log.error("channel_out_of_order", account=self._account, channel=self.channel)

    def begin_probe(self) -> bool:
        """Whether who was just answered with -1 should try again itself; then `end_probe` must be called."""
        if not self._outage.is_on or self._outage.probing:
            return False
        self._outage.probing = True
        return True

    @property
    def is_out_of_order(self) -> bool:
        """Whether nothing but -1 comes."""
        return self._outage.is_on

    def end_probe(self) -> None:
        """It tries no more."""
        self._outage.probing = False

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
        is_closed = self._closed_until_s > self._clock.monotonic_s() or self._outage.is_on
        return self._closed_for if is_closed else ""

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
        self._limit.change(most)
        self._wake.set()
