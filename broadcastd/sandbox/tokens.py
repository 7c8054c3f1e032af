"""Access tokens, classic and stable (reference, section 5). Time is handed in."""

import secrets
from dataclasses import dataclass
from math import inf
from string import ascii_letters, digits

# A classic token that was replaced stays usable so long; a stable one is renewed so long before its end.
OVERLAP_S = 300.0
FORCED_PER_DAY = 20
FORCED_APART_S = 30.0
DAY_S = 86_400.0
MAX_TOKEN_LENGTH = 512
# Older ones are forgotten and answered as unknown; a day's quota fits five times.
KNOWN_TOKENS = 10_000
_LETTERS = frozenset(ascii_letters + digits + "-_")


def new_text() -> str:
    """A token as long as a real one of today, which begins with a number and an underscore."""
    return "99_" + secrets.token_urlsafe(100)


@dataclass(slots=True)
class Token:
    """One token: dead for age from `expires_at` on, replaced from `replaced_at` on."""

    text: str
    expires_at: float
    replaced_at: float = inf


class Tokens:
    """The tokens of one account. The classic and the stable one do not touch each other."""

    def __init__(self, expires_in_s: int, now: float, first: str = "") -> None:
        self.expires_in_s = expires_in_s
        self._known: dict[str, Token] = {}
        self._classic = self._issue(now, first)
        self._stable: Token | None = None
        self._forced_at: list[float] = []

    @property
    def current(self) -> str:
        """The classic token that is the latest."""
        return self._classic.text

    def check(self, text: str, now: float) -> int:
        """What a call with this token answers: 0, 41001, 40014, 40001 or 42001.

        40014 is for what cannot be a token at all; a well-formed unknown one is 40001 (choice: the
        reference only says that both ask for a new token).
        """
        if not text:
            return 41001
        token = self._known.get(text)
        if token is None:
            return 40001 if len(text) <= MAX_TOKEN_LENGTH and _LETTERS.issuperset(text) else 40014
        if now >= token.replaced_at:
            return 40001
        return 42001 if now >= token.expires_at else 0

    def renew(self, now: float) -> Token:
        """A new classic token; the former is usable for 5 minutes more."""
        self._classic.replaced_at = min(self._classic.replaced_at, now + OVERLAP_S)
        self._classic = self._issue(now)
        return self._classic

    def stable(self, now: float, force: bool) -> Token:
        """The same token until its last 5 minutes, or a new one that kills the old when forced."""
        token = self._stable
        if token is None or self.check(token.text, now) != 0:
            token = self._stable = self._issue(now)
        elif force and self._may_force(now):
            self._forced_at.append(now)
            token.replaced_at = now
            token = self._stable = self._issue(now)
        elif token.expires_at - now < self._renewal_s:
            # The old one keeps its own end: that is the overlap.
            token = self._stable = self._issue(now)
        return token

    def expire(self, now: float) -> None:
        """Every token given so far is too old from now on (42001)."""
        for token in self._known.values():
            token.expires_at = min(token.expires_at, now)

    def invalidate(self, now: float) -> None:
        """Every token given so far is not the latest from now on (40001)."""
        for token in self._known.values():
            token.replaced_at = min(token.replaced_at, now)

    @property
    def _renewal_s(self) -> float:
        """5 minutes, or half the life of tokens that tests make shorter than that."""
        return min(OVERLAP_S, self.expires_in_s / 2)

    def _may_force(self, now: float) -> bool:
        self._forced_at = [at for at in self._forced_at if now - at < DAY_S]
        if self._forced_at and now - self._forced_at[-1] < FORCED_APART_S:
            return False
        return len(self._forced_at) < FORCED_PER_DAY

    def _issue(self, now: float, text: str = "") -> Token:
        token = Token(text or new_text(), now + self.expires_in_s)
        self._known[token.text] = token
        if len(self._known) > KNOWN_TOKENS:
            del self._known[next(iter(self._known))]
        return token
