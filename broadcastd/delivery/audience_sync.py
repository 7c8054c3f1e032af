"""Brings WeChat's list of followers into an audience table: page by page, to be gone on with at any time.

A pass reads the whole list. Only at its end is it known who has left; so only a pass that was read whole, and
that is not suspiciously short, marks anybody as gone.
"""

import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, TypeVar

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.errors import AudienceUnavailableError, TokenUnavailableError
from broadcastd.outcomes import Answer
from broadcastd.ports import TokenSource
from broadcastd.sync_ports import QUOTA_DAY, Claim, FollowersTable, Pass, Stage, UserList, UserPage

T = TypeVar("T")

CLAIM = timedelta(seconds=150)
"""Longer than a call, its pause and its page's commit take together: 40 s, 30 s and 60 s at the default."""

PASS_LIFE = timedelta(days=3)
"""After such a silence a pass is begun anew: too many of those that it saw may have left meanwhile.

Not shorter: a list of over five million takes more than one day's calls, and goes on over night.
"""

MOST_GONE_SHARE = 0.5
"""When more of the known followers are gone than this, it is rather the list that is wrong."""
LEAST_SHARE_OF_TOTAL = 0.99
"""A list that was read whole has as many as WeChat says, but for those who came or left meanwhile."""

TRIES = 6
"""Of one step, in a row: with the pauses of `retry`, a minute of trouble with WeChat or the database."""

LONGEST_PAUSE_S = 30
"""For an access token. What takes longer waits for an operator, and so does the sync."""
NEXT_MINUTE_S = 60
"""45011 says: slower, again next minute."""
INVALID_OPENID = 40003


class End(Enum):
    """How a sync ended."""

    COMPLETE = "complete"  # the table is as the list is
    IN_USE = "in_use"  # another sync works on the table
    USED_UP = "used_up"  # no more calls today; it goes on tomorrow
    SUSPICIOUS = "suspicious"  # all were read, and nobody was marked as gone: too many would be
    TROUBLE = "trouble"  # WeChat or the database; what is done is kept


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync came to."""

    end: End
    words: str = ""
    """Why it is not complete."""
    last: Pass | None = None
    calls_today: int = 0


class SyncWatcher(Protocol):
    """Who is told how it goes."""

    def resumed(self, last: Pass) -> None:
        """A pass that was begun before goes on."""

    def advanced(self, last: Pass) -> None:
        """A page was written, or the gone were marked."""

    def waiting(self, why: str, pause_s: float) -> None:
        """Something is tried again after a pause."""


class _StopError(Exception):
    """The sync ends here."""

    def __init__(self, end: End, words: str) -> None:
        super().__init__(words)
        self.end = end


class AudienceSync:
    """One sync of one table, by one process."""

    def __init__(
        self,
        table: FollowersTable,
        users: UserList,
        tokens: TokenSource,
        clock: Clock,
        watcher: SyncWatcher,
        calls_a_day: int,
    ) -> None:
        self._table = table
        self._users = users
        self._tokens = tokens
        self._clock = clock
        self._watcher = watcher
        self._calls_a_day = calls_a_day
        self._calls_today = 0
        self._last: Pass | None = None
        self._begun_anew = False

    async def run(
        self, holder: str, has_ended: Callable[[str], bool], *, anew: bool, force: bool
    ) -> SyncResult:
        """Go on with the pass that stands, or begin one (`anew`: in any case), until the list's end.

        `force` marks the gone however many they are, also of a pass that was found suspicious before. Raises
        TableUnfitError, SyncLostError, and AudienceUnavailableError before anything was done.
        """
        now = self._clock.now()
        other = await self._table.claim(Claim(holder, now + CLAIM), now, has_ended)
        if other is not None:
            return SyncResult(End.IN_USE, _in_use(other, now))
        try:
            await self._work(anew=anew, force=force)
            return SyncResult(End.COMPLETE, "", self._last, self._calls_today)
        except _StopError as stop:
            return SyncResult(stop.end, str(stop), self._last, self._calls_today)
        finally:
            # Where that fails, the claim runs out by itself.
            with contextlib.suppress(AudienceUnavailableError):
                await self._table.release()

    async def _work(self, *, anew: bool, force: bool) -> None:
        self._last = await self._pass_to_work_on(anew=anew, force=force)
        self._watcher.advanced(self._last)
        while self._last.stage is Stage.LISTING:
            await self._next_page(self._last)
        doubt = "" if force else await self._doubt(self._last)
        if doubt:
            raise _StopError(End.SUSPICIOUS, doubt)
        await self._steady(self._mark_gone)
        self._watcher.advanced(self._last)

    async def _pass_to_work_on(self, *, anew: bool, force: bool) -> Pass:
        now = self._clock.now()
        standing = await self._table.standing(now)
        self._calls_today = standing.calls_today
        last = standing.last
        if last is None or anew or not goes_on(last, now):
            return await self._begun()
        if last.stage is Stage.LISTED and not force and await self._doubt(last):
            return await self._begun()  # the list may be whole this time
        self._watcher.resumed(last)
        return last

    async def _begun(self) -> Pass:
        return await self._steady(lambda: self._table.begin(self._clock.now()))

    # -- the list --------------------------------------------------------------------------------------

    async def _next_page(self, before: Pass) -> None:
        page = await self._page(before)
        if page is None:
            self._begun_anew = True
            self._last = await self._begun()
            return
        is_last = not page.openids or not page.next_openid
        if not is_last and page.next_openid == before.next_openid:
            raise _StopError(End.TROUBLE, "WeChat's list does not go on: a page points at itself")
        self._last = await self._steady(
            lambda: self._table.add(before, page, self._clock.now(), is_last=is_last)
        )
        self._watcher.advanced(self._last)

    async def _page(self, before: Pass) -> UserPage | None:
        """The next page, however often it must be asked for. None: the follower where it begins has left."""
        tries, refreshed = 0, False
        while True:
            token = await self._token()
            answer = await self._asked(before, token)
            if isinstance(answer, UserPage):
                return answer
            if answer.errcode == INVALID_OPENID and before.next_openid and not self._begun_anew:
                return None
            action = meaning_of(answer.errcode).action if answer.answered else Action.RETRY
            if action is Action.REFRESH:
                self._tokens.discard(token)
                if not refreshed:
                    refreshed = True
                    continue
            tries += 1
            self._give_up_if_hopeless(answer, action, tries)
            pause_s = NEXT_MINUTE_S if action is Action.SLOW else retry.SYSTEM_BUSY.delay_s(tries)
            await self._pause(_why(answer), pause_s)

    async def _asked(self, before: Pass, token: str) -> UserPage | Answer:
        """One call, which is counted before it is made: a kill must not make WeChat's quota ours to guess."""
        if self._calls_today >= self._calls_a_day:
            used_up = f"the {self._calls_a_day} calls of today (audience.sync_calls_a_day) are used up"
            raise _StopError(End.USED_UP, f"{used_up}; {self._goes_on()}")
        now = self._clock.now()
        self._calls_today = await self._steady(lambda: self._table.count_call(now, now + CLAIM))
        return await self._users.page(before.next_openid, token)

    def _give_up_if_hopeless(self, answer: Answer, action: Action, tries: int) -> None:
        if action is Action.QUOTA:
            raise _StopError(End.USED_UP, f"{_why(answer)}; {self._goes_on()}")
        if action not in (Action.RETRY, Action.REFRESH, Action.SLOW) or tries >= TRIES:
            raise _StopError(End.TROUBLE, _why(answer))

    def _goes_on(self) -> str:
        local = self._clock.now().astimezone(QUOTA_DAY)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        hours, minutes = divmod(math.ceil((midnight - local).total_seconds() / 60), 60)
        return (
            f"run it again after {midnight:%Y-%m-%d %H:%M} in {QUOTA_DAY.key}, in {hours} h {minutes} min:"
            " it goes on where it is"
        )

    async def _token(self) -> str:
        tries = 0
        while True:
            try:
                return await self._tokens.token()
            except TokenUnavailableError as error:
                tries += 1
                if tries >= TRIES or error.retry_in_s > LONGEST_PAUSE_S:
                    raise _StopError(End.TROUBLE, str(error)) from error
                await self._pause(str(error), error.retry_in_s)

    # -- its end ---------------------------------------------------------------------------------------

    async def _doubt(self, last: Pass) -> str:
        """Why so many can hardly have left at once; else empty."""
        listed = last.seen + last.left_out
        if listed < LEAST_SHARE_OF_TOTAL * last.total:
            return f"the list ended after {listed:,} followers, while WeChat says there are {last.total:,}"
        unseen = await self._steady(lambda: self._table.unseen(last))
        if unseen > MOST_GONE_SHARE * last.known:
            return (
                f"{unseen:,} of the {last.known:,} followers known before are not on the list"
                " (is it the right account's?)"
            )
        return ""

    async def _mark_gone(self) -> None:
        # Read anew with each try: what was marked before a try broke off is counted already.
        standing = await self._table.standing(self._clock.now())
        if standing.last is not None:
            self._last = await self._table.mark_gone(standing.last, self._clock.now())

    # -- trouble ---------------------------------------------------------------------------------------

    async def _steady(self, step: Callable[[], Awaitable[T]]) -> T:
        """A step in the database, tried again while that is away. Each may be repeated."""
        tries = 0
        while True:
            try:
                return await step()
            except AudienceUnavailableError as error:
                tries += 1
                if tries >= TRIES:
                    raise _StopError(End.TROUBLE, str(error)) from error
                await self._pause(str(error), retry.DATABASE.delay_s(tries))

    async def _pause(self, why: str, pause_s: float) -> None:
        self._watcher.waiting(why, pause_s)
        await self._clock.sleep(pause_s)


def goes_on(last: Pass, now: datetime) -> bool:
    """Whether a sync goes on with `last`, or begins a new pass."""
    return last.stage is not Stage.COMPLETE and now - last.touched_at <= PASS_LIFE


def _why(answer: Answer) -> str:
    if answer.answered:
        return f"WeChat says: {in_words(answer.errcode)}"
    if answer.refused is not None:
        return f"WeChat cannot be reached: {answer.refused}"
    return f"WeChat does not answer: {answer.unanswered}"


def _in_use(other: Claim, now: datetime) -> str:
    left_s = (other.until - now).total_seconds()
    return (
        f"another audience sync works on this table ({other.holder}); if it does not, its claim runs out in"
        f" {left_s:,.0f} s"
    )
