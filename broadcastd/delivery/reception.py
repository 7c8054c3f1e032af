"""Takes in what WeChat pushes: durable before it is answered, and at once in force.

Pushes that come together are one commit: on a large account hundreds come in a second.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from broadcastd.callback_settings import plain_word
from broadcastd.clock import Clock
from broadcastd.delivery.opt_outs import OptOuts
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ports import Ledger
from broadcastd.pushes import NewPush, Push, PushKind, TextMessage, Word, kind_of

log = structlog.get_logger()

PACE_S = 0.01
"""The least time from one commit's start to the next one's."""
MOST_AT_ONCE = 500
MOST_UNSURE = 10_000


@dataclass(frozen=True, slots=True)
class Receiver:
    """One account's side of it."""

    words: Mapping[str, Word]
    told: Collection[PushKind]
    """What the site's database is to be told of."""
    opt_outs: OptOuts
    heard: Callable[[NewPush], None] = lambda push: None
    """Told of each new push once it is on disk."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    push: NewPush
    stored: "asyncio.Future[None]"


class Reception:
    """All accounts'. `run` must be running."""

    def __init__(self, ledger: Ledger, receivers: Mapping[str, Receiver], clock: Clock) -> None:
        self._ledger = ledger
        self._receivers = receivers
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self.heard: dict[tuple[str, PushKind], int] = {}
        """How many pushes of each account and kind were new."""
        self._unsure: dict[tuple[str, str], NewPush] = {}
        """Pushes of commits that nobody knows of: whether they are on disk shows when they come again."""

    async def take(self, account: str, push: Push) -> Word | None:
        """Return once a push is on disk and in force, with what it asks for.

        After an opt-out nobody calls WeChat for this follower any more, and no such call is under way.
        Raises LedgerUnavailableError: then it may or may not have been taken, and WeChat pushes it again.
        """
        receiver = self._receivers[account]
        word = _word_of(push, receiver.words)
        kind = kind_of(push, word)
        waiting = _Waiting(
            NewPush(account, push, kind, kind in receiver.told), asyncio.get_running_loop().create_future()
        )
        self._waiting.append(waiting)
        self._wake.set()
        await waiting.stored
        if word is Word.OPT_OUT:
            await receiver.opt_outs.quiet(push.openid)
        return word

    async def run(self) -> None:
        """Commit what waits, for ever."""
        while True:
            await self._wake.wait()
            started_s = self._clock.monotonic_s()
            some, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            if not self._waiting:
                self._wake.clear()
            await self._store(some)
            await self._clock.sleep(max(0.0, started_s + PACE_S - self._clock.monotonic_s()))

    async def _store(self, some: Sequence[_Waiting]) -> None:
        pushes = [one.push for one in some]
        try:
            new = await self._ledger.take_pushes(pushes, self._clock.now())
        except LedgerUnavailableError as error:
            self._note_unsure(pushes)
            for one in some:
                if not one.stored.done():
                    one.stored.set_exception(error)
            return
        for push, is_new in zip(pushes, new, strict=True):
            was_unsure = self._unsure.pop((push.account, push.push.dedupe_key), None) is not None
            if is_new or was_unsure:
                self._hear(push)
        for one in some:
            if not one.stored.done():
                one.stored.set_result(None)

    def _note_unsure(self, pushes: Sequence[NewPush]) -> None:
        if len(self._unsure) > MOST_UNSURE:
            self._unsure.clear()
        self._unsure |= {(push.account, push.push.dedupe_key): push for push in pushes}

    def _hear(self, push: NewPush) -> None:
        receiver = self._receivers[push.account]
        key = push.account, push.kind
        self.heard[key] = self.heard.get(key, 0) + 1
        receiver.opt_outs.heard(push.kind, push.push.openid)
        receiver.heard(push)
        if push.kind in (PushKind.OPT_OUT, PushKind.OPT_IN):
            log.info("follower_replied", account=push.account, openid=push.push.openid, asks=push.kind.value)


def _word_of(push: Push, words: Mapping[str, Word]) -> Word | None:
    return words.get(plain_word(push.content)) if isinstance(push, TextMessage) else None
