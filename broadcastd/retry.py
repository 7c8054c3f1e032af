"""How long to wait before the next try."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first_s` to `longest_s`, each shortened by up to `jitter` of itself.

    The jitter keeps thousands of recipients that failed together from coming back together.
    """

    first_s: float
    longest_s: float
    jitter: float = 0.25

    def delay_s(self, tries: int) -> float:
        """The pause after `tries` failed tries (1 and up), in seconds."""
        whole_s = min(self.longest_s, self.first_s * 2.0 ** min(tries - 1, 30))
        # Spread, not secrecy: a predictable generator is fine here.
        return whole_s * (1 - self.jitter * random.random())  # noqa: S311


# errcode -1: 1, 2, 4, 8, 16 s, as WxJava does (docs/wechat-api.md, section 8).
SYSTEM_BUSY = Backoff(first_s=1, longest_s=16)
SYSTEM_BUSY_TRIES = 5
# An errcode that the table does not know: two more tries (same section).
UNKNOWN_CODE_TRIES = 2
# Connect failures and HTTP 412, 429, 503 say nothing of the recipient: they are tried for a whole day.
REFUSED = Backoff(first_s=1, longest_s=60)
REFUSED_TRIES = 1500
# An access token that cannot be had. One reader an account: there is nothing to spread.
TOKEN = Backoff(first_s=5, longest_s=30, jitter=0)
# The site's database, which comes and goes.
DATABASE = Backoff(first_s=0.5, longest_s=30)
# The ledger's disk.
LEDGER = Backoff(first_s=0.2, longest_s=5)
