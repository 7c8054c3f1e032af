"""Tells an outage of one channel, when WeChat answers nothing but -1, from trouble that passes.

In an outage one call at a time tries, by the same recipient: few use up their tries. That it is the same one
matters where WeChat refuses every first call: the second shows that there is no outage.
"""

from broadcastd.clock import Clock
from broadcastd.retry import Backoff

IN_A_ROW = 20
"""Answers of -1, and nothing else for FIRST_PATIENCE_S, that are an outage."""

FIRST_PATIENCE_S = 0.5
LONGEST_PATIENCE_S = 8.0
"""It doubles with each outage that was none, up to this."""

FORGOTTEN_S = 60.0
"""After so long without an outage the patience is as short as at first."""

PAUSES = Backoff(first_s=1, longest_s=8)
"""Between two tries."""


class Outage:
    """`is_on` while one call at a time may try."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.in_a_row = 0
        """Answers of -1, one after the other."""
        self._since_s = 0.0
        self._patience_s = FIRST_PATIENCE_S
        self.tries = 0
        self._quiet_until_s = 0.0
        self._ended_s = 0.0
        self.probing = False
        """Whether a recipient has taken it on to try again and again."""

    @property
    def is_on(self) -> bool:
        """Whether nothing but -1 comes."""
        return self.tries > 0

    def busy(self) -> float | None:
        """A call was answered with -1. How long nobody should call now; None: go on."""
        now_s = self._clock.monotonic_s()
        if now_s < self._quiet_until_s:
            return None  # it was under way when the pause began
        if not self.in_a_row:
            self._since_s = now_s
        self.in_a_row += 1
        if not self.is_on:
            if self.in_a_row < IN_A_ROW or now_s - self._since_s < self._patience_s:
                return None
            if now_s - self._ended_s > FORGOTTEN_S:
                self._patience_s = FIRST_PATIENCE_S
        self.tries += 1
        pause_s = PAUSES.delay_s(self.tries)
        self._quiet_until_s = now_s + pause_s
        return pause_s

    def over(self) -> bool:
        """A call was answered with something else; whether a long outage ends by it."""
        self.in_a_row = 0
        if not self.is_on:
            return False
        was_long = self.tries > 1
        self.tries = 0
        self._quiet_until_s = 0.0
        self._ended_s = self._clock.monotonic_s()
        if not was_long:
            self._patience_s = min(LONGEST_PATIENCE_S, 2 * self._patience_s)
        return was_long
