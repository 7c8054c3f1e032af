"""What becomes of a lane that is held for its quota. Time is the test's."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bed.fakes import FakeClock, ScriptedChannel, Told, open_job
from bed.quota_sources import SHANGHAI, ScriptedQuotas

from broadcastd.delivery.lane import HoldOf
from broadcastd.delivery.quota_watch import AFTER_RESET_S, QuotaWatch, Watching
from broadcastd.delivery.quotas import AccountQuotas
from broadcastd.errors import LedgerUnavailableError
from broadcastd.outcomes import Answer
from broadcastd.settings import QuotaSettings

NOON = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)  # in Shanghai
LOOK_S = 60
HALF_A_DAY_S = 43_200
WHY = "45009 the daily quota of this API is used up (channel custom)"
UNREACHABLE = Answer(refused="no route")


class Parts:
    """The ledger, the recorder and the open jobs, as far as the watch uses them; notes in which order."""

    def __init__(self, *entries):
        self.entries = entries
        self.done = []
        self.failures = 0

    async def flush(self):
        self.done.append("flushed")

    async def hasten(self, job_no, channel_no, now, after=0):
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailableError("no disk")
        self.done.append((job_no, channel_no, after))
        return 100 if after == 0 else None

    def watch(self, watcher):
        self.watcher = watcher

    def goes_on(self, job_no):
        self.done.append(f"{job_no} goes on")

    def get(self, job_no):
        return next((one for one in self.entries if one.no == job_no), None)

    def __iter__(self):
        return iter(self.entries)


HASTENED = ["flushed", (1, 0, 0), (1, 0, 100), "1 goes on"]


class Scene:
    def __init__(self, left=0):
        self.clock = FakeClock(NOON)
        self.job = open_job(self.clock, ScriptedChannel("custom"), ScriptedChannel("template"))
        self.lane = self.job.account.lanes["custom"]
        self.source = ScriptedQuotas(left)
        self.parts, self.told = Parts(self.job), Told()
        quotas = AccountQuotas(self.job.account, self.source, self.clock)
        watching = Watching(self.parts, self.parts, self.parts, self.clock, self.told)
        self.watch = QuotaWatch(quotas, QuotaSettings(), SHANGHAI, watching)

    def hold(self):
        self.lane.put_on_hold(HoldOf.QUOTA, WHY)

    async def passes(self, seconds, step=1.0):
        """Let time pass, with the watch's turns in it."""
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            await self.watch.turn()

    @property
    def opens_in_s(self):
        return self.lane.hold.until_s - self.clock.monotonic_s()


@pytest.fixture
def used_up():
    return Scene(left=0)


async def test_a_day_that_is_used_up_is_waited_for_and_only_asked_about(used_up):
    used_up.hold()
    await used_up.watch.turn()
    assert used_up.opens_in_s == HALF_A_DAY_S + 3600
    assert used_up.lane.reason == f"{WHY}; nothing is left today; looked at again at 2026-11-24 04:01:00 UTC"
    await used_up.passes(LOOK_S * 10)
    assert used_up.lane.held is not None
    assert len(used_up.source.asked) == 11
    assert used_up.source.asked[0] == ("/custom", "token-1")
    assert used_up.parts.done == []
    assert used_up.told.kinds == ["quota_short default, custom"]
    assert used_up.told.notices[0].facts["reason"].startswith(WHY)


async def test_when_it_is_back_one_call_tries_and_who_waits_is_due(used_up):
    used_up.hold()
    await used_up.watch.turn()
    used_up.source.left = 500
    await used_up.passes(LOOK_S - 1)
    assert used_up.lane.held is not None
    await used_up.passes(1)
    assert used_up.lane.held is None
    assert used_up.lane.hold is not None, "one at a time"
    assert used_up.parts.done == HASTENED


async def test_who_was_put_off_meanwhile_is_due_too_once_a_call_has_passed(used_up):
    used_up.hold()
    await used_up.watch.turn()
    used_up.source.left = 500
    await used_up.passes(LOOK_S)
    used_up.parts.done.clear()
    used_up.lane.release()
    await used_up.passes(1)
    assert used_up.parts.done == HASTENED
    assert used_up.told.kinds[1:] == ["quota_short default, custom over"]
    await used_up.passes(10)
    assert used_up.parts.done == HASTENED


async def test_midnight_in_shanghai_is_looked_at_at_once(used_up):
    used_up.hold()
    await used_up.watch.turn()
    await used_up.passes(HALF_A_DAY_S - LOOK_S, step=LOOK_S)
    used_up.source.left = 1000
    asked = len(used_up.source.asked)
    used_up.watch._watched["custom"].look_at_s += 3600  # so that only the new day can be the reason
    await used_up.passes(LOOK_S + AFTER_RESET_S - 1)
    assert used_up.lane.held is not None
    await used_up.passes(1)
    assert used_up.lane.held is None
    assert len(used_up.source.asked) == asked + 1
    assert used_up.parts.done[: len(HASTENED)] == HASTENED


async def test_who_waits_for_yesterdays_quota_is_due_on_a_new_day_though_no_lane_is_held():
    scene = Scene(left=1000)
    await scene.passes(HALF_A_DAY_S + AFTER_RESET_S, step=AFTER_RESET_S)
    assert scene.parts.done == [*HASTENED, "flushed", (1, 1, 0), (1, 1, 100), "1 goes on"]
    assert scene.source.asked == []


async def test_45009_with_calls_left_is_a_limit_of_minutes():
    scene = Scene(left=500)
    scene.hold()
    await scene.watch.turn()
    assert scene.opens_in_s == 60
    assert scene.lane.reason == f"{WHY}; 500 calls are left today; tried again at 2026-11-24 04:01:00 UTC"
    for pause_s in (120, 240, 480):
        scene.clock.advance(scene.opens_in_s)
        scene.hold()  # the one call that tried got it again
        await scene.watch.turn()
        assert scene.opens_in_s == pause_s
    assert scene.parts.done == []


async def test_a_limit_of_minutes_that_turns_out_to_be_the_days_is_waited_for():
    scene = Scene(left=3)
    scene.hold()
    await scene.watch.turn()
    scene.source.left = 0
    await scene.passes(LOOK_S)
    assert "nothing is left today" in scene.lane.reason
    assert scene.opens_in_s > HALF_A_DAY_S


async def test_without_figures_it_is_tried_after_pauses_that_grow():
    scene = Scene()
    scene.source.answers = [UNREACHABLE] * 10
    scene.hold()
    await scene.watch.turn()
    assert scene.opens_in_s == 60
    assert scene.lane.reason == f"{WHY}; what is left is not known; tried again at 2026-11-24 04:01:00 UTC"
    scene.clock.advance(60)
    scene.hold()
    await scene.watch.turn()
    assert scene.opens_in_s == 120


async def test_figures_that_come_no_more_do_not_keep_it_held_all_day(used_up):
    used_up.hold()
    await used_up.watch.turn()
    used_up.source.answers = [UNREACHABLE]
    await used_up.passes(LOOK_S)
    assert used_up.opens_in_s == 120
    await used_up.passes(LOOK_S)
    assert "nothing is left today" in used_up.lane.reason


async def test_a_hold_for_an_operator_is_none_of_its_business(used_up):
    used_up.lane.put_on_hold(HoldOf.OPERATOR, "48001 the account may not use this API")
    await used_up.passes(LOOK_S)
    assert used_up.source.asked == []


async def test_a_ledger_that_is_away_is_waited_for(used_up):
    used_up.parts.failures = 3
    await used_up.watch.hasten("custom")
    assert used_up.parts.done == HASTENED
    assert len(used_up.clock.slept) == 3


async def test_after_a_restart_who_was_put_off_before_it_is_due(used_up):
    books = used_up.job.job.books
    used_up.parts.watcher(used_up.job.job)
    await used_up.watch.turn()
    assert used_up.parts.done == []
    assert books.recipients == 0
    used_up.parts.watcher(replace(used_up.job.job, books=replace(books, recipients=9)))
    await used_up.watch.turn()
    assert used_up.parts.done == [(1, 0, 0), (1, 0, 100), (1, 1, 0), (1, 1, 100), "1 goes on"]


# -- AccountQuotas -----------------------------------------------------------------------------------------


async def test_a_stale_token_is_fetched_anew_once(used_up):
    quotas, tokens = used_up.watch.quotas, used_up.job.account.tokens
    used_up.source.answers = [Answer(42001)]
    assert (await quotas.look("custom")).daily_limit == 1000
    assert [token for _, token in used_up.source.asked] == ["token-1", "token-2"]
    used_up.source.answers = [Answer(42001), Answer(40001)]
    trouble = await quotas.look("custom")
    assert trouble.words.startswith("40001 ")
    assert tokens.discarded == ["token-1", "token-2", "token-3"]
    assert quotas.seen["custom"].quota.daily_limit == 1000, "the former figures stay"


async def test_a_reset_goes_by_the_secret_only_when_the_token_is_in_trouble(used_up):
    quotas, source = used_up.watch.quotas, used_up.source
    source.answers = [Answer(42001), Answer(40001)]
    assert (await quotas.clear()).of_token
    assert source.cleared_with == ["token-1", "token-2"]
    source.has_secret = True
    source.cleared_with.clear()
    used_up.job.account.tokens.unavailable = "no token"
    assert await quotas.clear() is None
    assert source.cleared_with == [None]


async def test_a_reset_that_was_not_answered_is_never_asked_for_twice(used_up):
    used_up.source.has_secret = True
    used_up.source.answers = [Answer(unanswered="no answer in time")]
    trouble = await used_up.watch.quotas.clear()
    assert trouble.words == "WeChat does not answer, and may have done it: no answer in time"
    assert used_up.source.cleared_with == ["token-1"]
