"""What gives out stable tokens, as WeChat does, and takes only the latest; it knows nothing of broadcastd.

`answer` goes to `CountingEndpoint.answer`. Time is what a test says: tokens end when it calls `expire`.
"""

import json
import threading
from collections import Counter

from bed.endpoint import OK

APP_ID = "wx0123456789abcdef"
APP_SECRET = "5ecret5ecret5ecret5ecret5ecret50"
STABLE = "/cgi-bin/stable_token"


def refusal(errcode: int, errmsg: str = "no") -> bytes:
    return json.dumps({"errcode": errcode, "errmsg": f"{errmsg} rid: 1-2-3"}).encode()


class Platform:
    """One account's tokens."""

    def __init__(self, expires_in_s: int = 7200) -> None:
        self.expires_in_s = expires_in_s
        self.number = 1
        self.asked = 0
        """Calls of stable_token, those that force included."""
        self.forced = 0
        self.refuses_token = 0
        """An errcode that stable_token answers with; 0: it gives a token."""
        self.refuses_send = 0
        """An errcode that every send gets, whatever its token is."""
        self.stale_errcode = 42001
        self.forces = True
        """Whether a forced refresh is allowed; else it answers with the present token."""
        self.stale: Counter[str] = Counter()
        """Tokens to how many sends they were refused for."""
        self.bodies: list[dict[str, object]] = []
        self._lock = threading.Lock()

    @property
    def token(self) -> str:
        """The only one that is taken."""
        return f"stable-token-{self.number}"

    def expire(self) -> None:
        """The present one is stale from now on, and the next is there."""
        with self._lock:
            self.number += 1

    def answer(self, path: str, body: dict[str, object]) -> bytes:
        with self._lock:
            return self._granted(body) if path.startswith(STABLE) else self._sent(path)

    def _granted(self, body: dict[str, object]) -> bytes:
        self.asked += 1
        self.bodies.append(body)
        if self.refuses_token:
            return refusal(self.refuses_token)
        if body["force_refresh"]:
            self.forced += 1
            self.number += self.forces
        return json.dumps({"access_token": self.token, "expires_in": self.expires_in_s}).encode()

    def _sent(self, path: str) -> bytes:
        token = path.partition("access_token=")[2]
        if self.refuses_send:
            return refusal(self.refuses_send)
        if token != self.token:
            self.stale[token] += 1
            return refusal(self.stale_errcode)
        return OK
