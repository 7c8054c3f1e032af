"""How many calls of a lane may be under way: adapts itself to what WeChat bears.

Judged a round at a time: a round is over when all that were under way at its beginning have come back, so
what was answered well in it is about what WeChat bears at once. With more in flight, the rest is refused.
"""

from broadcastd.clock import Clock

WINDOW_S = 1.0
"""A round takes no longer, however slow some calls are; and the number grows once in so long."""

BURST = 5
"""Troubled calls in a round, and a share of BURST_SHARE, that make the number fall."""

BURST_SHARE = 0.2
BELOW = 0.9
"""Of what was answered well in a round: so far it falls."""

LEAST_CUT, MOST_CUT = 0.75, 0.25
"""It falls to this share of itself at the most, and at the least."""

FLOOR = 8
"""It falls no lower by itself: trouble that has nothing to do with our pace must not stop everything."""

WELL_SHARE = 0.05
"""At most so much trouble in a window lets the number grow."""

START = 120
"""Where it begins; it doubles with each round that is well, until the first burst of trouble."""

GROWTH = 16
"""Then it grows by a sixteenth of itself a window, by one at the least."""

IN_VAIN = 3
"""After so many falls in a row that made nothing better, the trouble is not of our making."""

PATIENCE_S = 30.0
"""So long such trouble is borne, before it is looked at again."""


class Limit:
    """`present` is the number; `most` what it never exceeds."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self.most = most
        self.present = min(START, most)
        self.in_flight = 0
        self._seen_trouble = False
        self.round = 1
        """Of the calls that begin now: each keeps it until it is back."""
        self._old = 0
        self._calls = self._troubled = self._peak = 0
        self._round_ends_s = clock.monotonic_s() + WINDOW_S
        self._window_calls = self._window_troubled = 0
        self._window_ends_s = self._round_ends_s
        self._fell_in_window = False
        self._settles = False
        self._falls = 0
        self._before = most
        self._share_before = 0.0
        self._borne_share = 0.0
        self._borne_until_s = 0.0

    def began(self) -> int:
        """A call begins; the round that it belongs to."""
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        return self.round

    def ended(self, round_no: int, troubled: bool | None) -> None:
        """A call of this round is back; None: it was not made."""
        self.in_flight -= 1
        if round_no != self.round:
            self._old -= 1
        if troubled is not None:
            self._calls += 1
            self._troubled += troubled
        now_s = self._clock.monotonic_s()
        if self._old <= 0 or now_s >= self._round_ends_s:
            self._next_round(now_s)

    def another(self, round_no: int, now_s: float) -> int:
        """A call came back well, and who made it begins the next: `ended` and `began` in one."""
        self._calls += 1
        if round_no != self.round:
            self._old -= 1
        if self._old <= 0 or now_s >= self._round_ends_s:
            self.in_flight -= 1
            self._next_round(now_s)
            self.in_flight += 1
            self._peak = max(self._peak, self.in_flight)
        return self.round

    def change(self, most: int) -> None:
        """Another number at most."""
        self.present = most if self.present == self.most else min(self.present, most)
        self._before = min(self._before, most)
        self.most = most

    def fall(self) -> None:
        """Begin low again: WeChat comes back after it was away."""
        self.present = max(min(FLOOR, self.most), int(self.present * MOST_CUT))
        self._borne_until_s = 0.0

    def _next_round(self, now_s: float) -> None:
        # Right after a change what comes back began before it.
        is_burst = self._troubled >= max(BURST, BURST_SHARE * self._calls)
        self._seen_trouble |= is_burst
        if not self._seen_trouble and self._peak >= self.present:
            self.present = min(self.most, 2 * self.present)
        self._settles = is_burst and not self._settles and self._judge(now_s)
        self._window_calls += self._calls
        self._window_troubled += self._troubled
        if now_s >= self._window_ends_s:
            self._next_window(now_s)
        self.round += 1
        self._old = self._peak = self.in_flight
        self._calls = self._troubled = 0
        self._round_ends_s = now_s + WINDOW_S

    def _judge(self, now_s: float) -> bool:
        """There was a burst of trouble; whether the number has changed for it."""
        share = self._troubled / self._calls
        if now_s < self._borne_until_s and share <= self._borne_share:
            return False
        if self._falls >= IN_VAIN and share >= self._share_before / 2:
            self.present = min(self.most, self._before)
            self._borne_share, self._borne_until_s = min(1.0, 1.5 * share), now_s + PATIENCE_S
            self._falls = 0
            return True
        if not self._falls:
            self._before, self._share_before = self.present, share
        self._falls += 1
        self._fell_in_window = True
        used = min(self.present, self._peak)
        # A round that was cut short by its time may hold several calls of one place.
        borne = int(BELOW * ((1 - share) * used if self._old > 0 else self._calls - self._troubled))
        lower = max(min(FLOOR, self.most), int(MOST_CUT * used), min(borne, int(LEAST_CUT * used)))
        self.present = min(self.present, lower)
        return True

    def _next_window(self, now_s: float) -> None:
        if self._window_troubled <= WELL_SHARE * self._window_calls and self.present < self.most:
            self.present = min(self.most, self.present + max(1, self.present // GROWTH))
        if not self._fell_in_window:
            self._falls = 0
        self._fell_in_window = False
        self._window_calls = self._window_troubled = 0
        self._window_ends_s = now_s + WINDOW_S
