"""Who has opted out of an account's messages, as the sender must know it right before each call.

The site's database says it too, but later: its statement may wait for the database, and a slice may have been
pulled before it ran. What the site sets itself after that counts again.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

from broadcastd.clock import Clock
from broadcastd.pushes import PushKind, WaitingPush

REPLICA_LAG_S = 60.0
"""So long a database that an audience is read from may be behind the one that the statement ran in."""

ALWAYS_BEFORE = float("-inf")
"""When a slice was pulled, if nobody knows: before whatever happened."""


class OptOuts:
    """One account's. `lasting`: no statement tells the site, so this is all that keeps it."""

    def __init__(self, clock: Clock, *, lasting: bool = False) -> None:
        self._clock = clock
        self._lasting = lasting
        self._out: dict[str, float | None] = {}
        """Openid to when the site's database knew it (monotonic); None: not yet."""
        self._untold: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    def restore(self, opted_out: Iterable[str], waiting: Iterable[WaitingPush]) -> None:
        """What the ledger knows at a start."""
        if self._lasting:
            self._out = dict.fromkeys(opted_out)
        for one in waiting:
            self.heard(one.kind, one.openid)

    def heard(self, kind: PushKind, openid: str) -> None:
        """A push that is on disk."""
        if kind is PushKind.OPT_OUT:
            self._untold[openid] += not self._lasting
            self._out[openid] = None
        elif kind is PushKind.OPT_IN:
            self._out.pop(openid, None)

    def told(self, kind: PushKind, openid: str) -> None:
        """The site's database knows of one push."""
        if kind is not PushKind.OPT_OUT or self._lasting:
            return
        self._untold[openid] -= 1
        if self._untold[openid] <= 0:
            del self._untold[openid]
            if openid in self._out:
                self._out[openid] = self._clock.monotonic_s()

    def bars(self, openid: str, pulled_s: float) -> bool:
        """Whether nobody may call for `openid`, whose row was read at `pulled_s` (monotonic) or later."""
        if openid not in self._out:
            return False
        told_s = self._out[openid]
        return told_s is None or pulled_s < told_s + REPLICA_LAG_S

    @contextlib.contextmanager
    def calling(self, openid: str) -> Iterator[None]:
        """Around a call that reaches this follower."""
        self.call_began(openid)
        try:
            yield
        finally:
            self.call_ended(openid)

    @contextlib.contextmanager
    def calling_all(self, openids: Collection[str]) -> Iterator[None]:
        """Around a call that reaches many."""
        self._calls.update(openids)
        try:
            yield
        finally:
            for openid in openids:
                self.call_ended(openid)

    def call_began(self, openid: str) -> None:
        """As `calling`, where a call is no block of code."""
        self._calls[openid] += 1

    def call_ended(self, openid: str) -> None:
        """See `call_began`."""
        self._calls[openid] -= 1
        if not self._calls[openid]:
            del self._calls[openid]
            for waiting in self._waiting.pop(openid, ()):
                if not waiting.done():
                    waiting.set_result(None)

    async def quiet(self, openid: str) -> None:
        """Return once no call for this follower is under way."""
        while openid in self._calls:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[openid].append(done)
            await done
