import asyncio

import pytest
from bed.fakes import OK, FakeClock, FakeTokens, ScriptedChannel, ScriptedList, open_job

from broadcastd import retry
from broadcastd.delivery.answered import ACCOUNT_TRY_S, MINUTE_S, Recipient
from broadcastd.delivery.lane import HOLD_PAUSES, HoldOf
from broadcastd.delivery.sender import IN_DOUBT_PAUSE_S, PROBES, TOKEN_PAUSE_S, Sender
from broadcastd.errcodes import MEANINGS, UNLISTED_AFTER, Action, in_words
from broadcastd.model import OnUnknown
from broadcastd.outcomes import Answer, Ended, Gather, Halt, Later, Outcome

ANNA = Recipient(17, "o-anna")
REFUSED = Answer(refused="no route")
UNANSWERED = Answer(unanswered="no answer in time")
STALE = Answer(40001)


def by_action(action):
    return sorted(code for code, meaning in MEANINGS.items() if meaning.action is action)


class Scene:
    """A job over scripted channels `custom` and `template`, and a sender."""

    def __init__(self, custom=(), template=(), on_unknown=OnUnknown.RESEND):
        self.clock = FakeClock()
        self.custom = ScriptedChannel("custom", custom)
        self.template = ScriptedChannel("template", template)
        self.job = open_job(self.clock, self.custom, self.template, on_unknown=on_unknown)
        self.tokens: FakeTokens = self.job.account.tokens
        self.gate = self.job.account.gate
        self.pace = self.job.account.pace
        self.lanes = self.job.account.lanes
        self.sender = Sender(self.clock)

    async def ask(self, who=ANNA, may_ask=lambda: True):
        verdict = await self.sender.ask(self.job, who, may_ask)
        assert self.pace.in_flight == 0
        assert {lane.in_flight for lane in self.lanes.values()} == {0}
        return verdict


async def test_accepted():
    scene = Scene([OK])
    assert await scene.ask() == Ended(Outcome.SENT, "custom")
    assert scene.custom.asked == ["o-anna"]
    assert scene.template.asked == []


async def test_the_message_id_is_stable_and_fits_wechat():
    scene = Scene([Answer(45015)])
    await scene.ask(Recipient(2**63 - 1, "o-anna"))
    (first,) = set(scene.custom.message_ids + scene.template.message_ids)
    assert first == "j0123456789ab-7zzzzzzzzzzzz"
    assert len(first) <= 32


@pytest.mark.parametrize("errcode", by_action(Action.FALLBACK))
async def test_codes_that_say_so_fall_back(errcode):
    scene = Scene([Answer(errcode)])
    assert await scene.ask() == Ended(Outcome.SENT, "template")
    assert scene.custom.asked == scene.template.asked == ["o-anna"]


@pytest.mark.parametrize("errcode", by_action(Action.FALLBACK))
async def test_after_the_last_channel_it_is_refused_for_good(errcode):
    scene = Scene([Answer(45015)], [Answer(errcode)])
    assert await scene.ask() == Ended(Outcome.REJECTED, "template", errcode)


@pytest.mark.parametrize("errcode", by_action(Action.REJECT))
async def test_refused_for_good(errcode):
    scene = Scene([Answer(errcode)])
    assert await scene.ask() == Ended(Outcome.REJECTED, "custom", errcode)
    assert scene.template.asked == []


@pytest.mark.parametrize("errcode", by_action(Action.STOP) + by_action(Action.REBUILD))
async def test_the_job_is_held_for_an_operator(errcode):
    scene = Scene([Answer(errcode)])
    assert await scene.ask() == Halt(f"{in_words(errcode)} (channel custom)", 0, errcode=errcode)
    assert scene.template.asked == []


@pytest.mark.parametrize("errcode", by_action(Action.HOLD_ACCOUNT))
async def test_the_account_is_held_and_tried_again(errcode):
    scene = Scene([Answer(errcode)])
    for_s = {89507: 3600, 89506: 86400}.get(errcode, ACCOUNT_TRY_S)
    assert await scene.ask() == Halt(f"{in_words(errcode)} (channel custom)", 0, for_s)
    assert scene.template.asked == []


@pytest.mark.parametrize("errcode", by_action(Action.HOLD_CHANNEL))
async def test_a_channel_that_is_not_allowed_is_held_and_the_next_one_is_taken(errcode):
    scene = Scene([Answer(errcode)])
    for _ in range(2):
        assert await scene.ask() == Ended(Outcome.SENT, "template")
    assert scene.custom.asked == ["o-anna"], "held: not asked again"
    assert str(errcode) in scene.lanes["custom"].held.reason


@pytest.mark.parametrize("errcode", by_action(Action.HOLD_CHANNEL))
async def test_without_a_next_channel_the_job_is_held(errcode):
    scene = Scene([Answer(45015)] * 2, [Answer(errcode)])
    for _ in range(2):
        assert await scene.ask() == Halt(f"{in_words(errcode)} (channel template)", 1)
    assert len(scene.template.asked) == 1


@pytest.mark.parametrize("errcode", by_action(Action.QUOTA))
async def test_without_quota_the_recipient_is_due_on_this_channel_when_it_may_be_back(errcode):
    scene = Scene([Answer(errcode), OK])
    for _ in range(2):
        verdict = await scene.ask(Recipient(17, "o-anna", tries=2))
        assert isinstance(verdict, Later)
        assert (verdict.delay_s, verdict.channel_no, verdict.tries) == (HOLD_PAUSES.first_s, 0, 2)
        assert str(errcode) in verdict.reason
    assert scene.custom.asked == ["o-anna"], "held: not asked again"
    assert scene.template.asked == []
    scene.clock.advance(HOLD_PAUSES.first_s)
    assert await scene.ask() == Ended(Outcome.SENT, "custom")
    assert scene.lanes["custom"].hold is None


@pytest.mark.parametrize("errcode", by_action(Action.SLOW))
async def test_slower_closes_the_channel_until_the_next_minute(errcode):
    scene = Scene([Answer(45015)], [Answer(errcode)])
    scene.clock.advance(20)
    verdict = await scene.ask(Recipient(17, "o-anna", tries=2))
    assert verdict == Later(40, scene.lanes["template"].reason, channel_no=1, tries=2)
    assert not scene.gate.closed
    assert scene.lanes["custom"].reason == ""
    scene.clock.advance(40)
    assert scene.lanes["template"].reason == ""


async def test_slower_right_before_the_next_minute_means_the_one_after_it():
    scene = Scene([Answer(45011)])
    scene.clock.advance(58)
    verdict = await scene.ask()
    assert isinstance(verdict, Later)
    assert verdict.delay_s == 62


@pytest.mark.parametrize("errcode", by_action(Action.MINUTE))
async def test_a_repeat_within_a_minute_is_asked_again_then(errcode):
    scene = Scene([Answer(errcode), OK])
    verdict = await scene.ask()
    assert verdict == Later(MINUTE_S, in_words(errcode), 0, 1)
    assert await scene.ask(Recipient(17, "o-anna", tries=1)) == Ended(Outcome.SENT, "custom")


@pytest.mark.parametrize("errcode", by_action(Action.MINUTE))
async def test_a_repeat_of_a_call_in_doubt_has_arrived(errcode):
    scene = Scene([Answer(errcode)])
    assert await scene.ask(Recipient(17, "o-anna", doubts=1)) == Ended(Outcome.SENT, "custom")


@pytest.mark.parametrize("errcode", [40003, 50002])
async def test_one_refusal_too_many_in_a_row_is_the_accounts_trouble(errcode):
    most = MEANINGS[errcode].hold_after
    scene = Scene([Answer(errcode)] * (most - 1) + [OK] + [Answer(errcode)] * most)
    for number in range(2 * most - 1):
        verdict = await scene.ask(Recipient(number, f"o-{number}"))
        assert isinstance(verdict, Ended)
    verdict = await scene.ask(Recipient(999, "o-999"))
    assert isinstance(verdict, Halt)
    assert verdict.account_for_s == ACCOUNT_TRY_S


async def test_an_unknown_code_for_many_recipients_is_the_accounts_trouble():
    scene = Scene([Answer(99999)] * UNLISTED_AFTER)
    verdicts = [await scene.ask(Recipient(number, f"o-{number}")) for number in range(UNLISTED_AFTER)]
    assert all(isinstance(verdict, Later) for verdict in verdicts[:-1])
    assert isinstance(verdicts[-1], Halt)


async def test_an_unknown_code_for_some_among_many_is_theirs():
    scene = Scene([*[Answer(99999), *[OK] * 2] * (2 * UNLISTED_AFTER)])
    for number in range(6 * UNLISTED_AFTER):
        assert not isinstance(await scene.ask(Recipient(number, f"o-{number}")), Halt)


@pytest.mark.parametrize(
    ("errcode", "most"), [(-1, retry.SYSTEM_BUSY_TRIES), (99999, retry.UNKNOWN_CODE_TRIES)]
)
async def test_busy_and_unlisted_codes_are_tried_so_often_and_then_fail(errcode, most):
    scene = Scene([Answer(errcode)] * (most + 1))
    who, pauses_s = ANNA, []
    for tries in range(1, most + 1):
        verdict = await scene.ask(who)
        assert isinstance(verdict, Later)
        assert (verdict.channel_no, verdict.tries, verdict.in_doubt) == (0, tries, False)
        pauses_s.append(verdict.delay_s)
        who = Recipient(17, "o-anna", verdict.channel_no, verdict.tries)
    assert pauses_s == sorted(pauses_s)
    assert await scene.ask(who) == Ended(Outcome.FAILED, "custom", errcode)
    assert scene.template.asked == []
    assert not scene.gate.closed


# -- the token ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("errcode", by_action(Action.REFRESH))
async def test_a_stale_token_is_read_again_and_it_is_asked_once_more(errcode):
    scene = Scene([Answer(errcode), OK])
    assert await scene.ask() == Ended(Outcome.SENT, "custom")
    assert scene.custom.tokens == ["token-1", "token-2"]
    assert scene.tokens.discarded == ["token-1"]


async def test_two_stale_tokens_are_enough_for_now():
    scene = Scene([STALE, STALE, OK])
    verdict = await scene.ask(Recipient(17, "o-anna", tries=3))
    assert isinstance(verdict, Later)
    assert (verdict.delay_s, verdict.channel_no, verdict.tries) == (TOKEN_PAUSE_S, 0, 3)
    assert len(scene.custom.asked) == 2
    assert scene.gate.closed


async def test_what_the_second_call_says_counts():
    scene = Scene([STALE, Answer(45015)])
    assert await scene.ask() == Ended(Outcome.SENT, "template")
    assert scene.template.tokens == ["token-2"]


async def test_the_second_call_may_get_no_answer():
    scene = Scene([STALE, UNANSWERED])
    verdict = await scene.ask()
    assert isinstance(verdict, Later)
    assert verdict.in_doubt


async def test_without_a_token_nobody_is_asked_and_no_try_is_used():
    scene = Scene()
    scene.tokens.unavailable = "the database is away"
    verdict = await scene.ask(Recipient(17, "o-anna", channel_no=1, tries=3))
    assert verdict == Later(scene.tokens.retry_in_s, "the database is away", channel_no=1, tries=3)
    assert scene.template.asked == []
    assert scene.gate.reason == "the database is away"


async def test_a_token_that_cannot_be_read_again_is_waited_for():
    scene = Scene([STALE])
    scene.tokens.breaks_at_discard = "still the stale one"
    assert await scene.ask() == Later(scene.tokens.retry_in_s, "still the stale one", 0, 0)
    assert len(scene.custom.asked) == 1


# -- trouble -----------------------------------------------------------------------------------------------


async def test_refused_keeps_the_channel_counts_the_try_and_never_falls_back():
    scene = Scene([Answer(45015)], [REFUSED])
    verdict = await scene.ask(Recipient(17, "o-anna", tries=2, refusals=4))
    assert isinstance(verdict, Later)
    assert (verdict.channel_no, verdict.tries, verdict.refusals, verdict.in_doubt) == (1, 2, 5, False)
    assert verdict.reason == "no route"
    again = Recipient(17, "o-anna", verdict.channel_no, verdict.tries, refusals=verdict.refusals)
    assert await scene.ask(again) == Ended(Outcome.SENT, "template")
    assert len(scene.custom.asked) == 1


async def test_refused_ends_after_a_days_tries():
    scene = Scene([REFUSED, REFUSED])
    most = retry.REFUSED_TRIES
    assert isinstance(await scene.ask(Recipient(17, "o-anna", refusals=most - 1)), Later)
    assert await scene.ask(Recipient(17, "o-anna", refusals=most)) == Ended(Outcome.FAILED, "custom")


@pytest.mark.parametrize("errcode", [-1, 99999])
async def test_tries_of_an_outage_are_not_counted_against_wechats_own_busy(errcode):
    scene = Scene([REFUSED] * 30 + [Answer(errcode), OK])
    who = ANNA
    for _ in range(30):
        verdict = await scene.ask(who)
        who = Recipient(17, "o-anna", verdict.channel_no, verdict.tries, refusals=verdict.refusals)
    verdict = await scene.ask(who)
    assert isinstance(verdict, Later)
    assert (verdict.tries, verdict.refusals) == (1, 0)


async def test_unanswered_is_asked_once_more_on_the_same_channel_and_counted_first():
    scene = Scene([Answer(45015)], [UNANSWERED, OK])
    verdict = await scene.ask()
    assert verdict == Later(IN_DOUBT_PAUSE_S, "no answer in time", channel_no=1, in_doubt=True)
    assert await scene.ask(Recipient(17, "o-anna", 1, doubts=1)) == Ended(Outcome.SENT, "template")


async def test_a_call_in_doubt_may_be_what_used_up_the_allowance():
    """Then it has arrived, and the next channel's message would be the second."""
    scene = Scene([Answer(45047)])
    assert await scene.ask(Recipient(17, "o-anna", doubts=1)) == Ended(Outcome.UNKNOWN, "custom")
    assert scene.template.asked == []


async def test_a_call_in_doubt_that_could_not_arrive_leads_to_the_next_channel():
    """Outside the window the first one was refused, too."""
    scene = Scene([Answer(45015)], [OK])
    assert await scene.ask(Recipient(17, "o-anna", doubts=1)) == Ended(Outcome.SENT, "template")


async def test_unanswered_twice_is_unknown():
    scene = Scene([UNANSWERED])
    assert await scene.ask(Recipient(17, "o-anna", doubts=1)) == Ended(Outcome.UNKNOWN, "custom")
    assert scene.template.asked == []


async def test_under_leave_unanswered_is_unknown_at_once():
    scene = Scene([UNANSWERED], on_unknown=OnUnknown.LEAVE)
    assert await scene.ask() == Ended(Outcome.UNKNOWN, "custom")
    assert len(scene.custom.asked) == 1
    assert scene.template.asked == []


@pytest.mark.parametrize(
    ("answer", "words"), [(REFUSED, "cannot be reached"), (UNANSWERED, "does not answer")]
)
async def test_trouble_with_many_in_a_row_closes_the_gate(answer, words):
    scene = Scene([answer] * 20)
    for number in range(20):
        assert not scene.gate.closed, number
        await scene.ask()
    assert words in scene.gate.reason


async def test_an_answer_of_any_kind_between_them_keeps_the_gate_open():
    scene = Scene([*[REFUSED] * 19, Answer(40003), *[REFUSED] * 19])
    for _ in range(39):
        await scene.ask()
    assert not scene.gate.closed


async def test_who_is_due_on_the_second_channel_is_not_asked_on_the_first():
    scene = Scene()
    assert await scene.ask(Recipient(17, "o-anna", channel_no=1)) == Ended(Outcome.SENT, "template")
    assert scene.custom.asked == []


async def test_the_latency_reaches_the_pace():
    scene = Scene()

    async def slow(body, token, may_ask):
        del body, token, may_ask
        scene.clock.advance(0.05)
        return OK

    scene.custom.attempt = slow
    await scene.ask()
    assert scene.pace.sends_per_task == 10  # 12,000 a second x 0.05 s over 60 tasks


async def test_a_job_that_stands_is_not_asked_on_the_next_channel():
    scene = Scene([Answer(45015)])
    verdict = await scene.ask(may_ask=lambda: not scene.custom.asked)
    assert verdict == Later(0.0, "stopped", channel_no=1)
    assert scene.template.asked == []


async def test_a_job_that_stands_is_not_asked_with_a_new_token():
    scene = Scene([Answer(42001)])
    verdict = await scene.ask(Recipient(17, "o-anna", tries=2), may_ask=lambda: not scene.custom.asked)
    assert verdict == Later(0.0, "stopped", channel_no=0, tries=2)
    assert len(scene.custom.asked) == 1


async def test_a_job_that_stands_is_not_asked_at_all():
    scene = Scene()
    assert await scene.ask(may_ask=lambda: False) == Later(0.0, "stopped")
    assert scene.custom.asked == []


async def test_who_was_not_asked_for_want_of_a_connection_in_time_is_due_at_once():
    scene = Scene([None])
    verdict = await scene.ask(Recipient(17, "o-anna", tries=2, refusals=3))
    assert verdict == Later(0.0, "stopped", channel_no=0, tries=2, refusals=3)
    assert scene.template.asked == []


async def test_the_account_is_closed_before_anybody_else_can_try():
    scene = Scene([Answer(40164)])
    verdict = await scene.ask()
    assert scene.gate.closed
    assert scene.gate.reason == verdict.reason
    scene.clock.advance(ACCOUNT_TRY_S)
    assert scene.gate.enter()
    assert not scene.gate.enter(), "one call at a time"


async def nothing_but_busy(scene, may_ask=lambda: True):
    """An outage begins, by calls of others."""
    lane = scene.lanes["custom"]
    while not lane.is_out_of_order:
        lane.leave(await lane.enter(may_ask), troubled=True, busy=True)
        scene.clock.advance(0.05)


async def with_lane(scene, act):
    lane = asyncio.get_running_loop().create_task(scene.lanes["custom"].run())
    try:
        return await act()
    finally:
        lane.cancel()
        await asyncio.gather(lane, return_exceptions=True)


async def test_in_an_outage_the_same_recipient_tries_again_and_uses_up_no_tries():
    scene = Scene([Answer(-1)] * 5 + [OK])
    await nothing_but_busy(scene)
    assert await with_lane(scene, scene.ask) == Ended(Outcome.SENT, "custom")
    assert scene.custom.asked == ["o-anna"] * 6
    assert sum(scene.clock.slept) >= 0.75 * (1 + 2 + 4 + 8 + 8)
    assert scene.lanes["custom"].reason == ""


async def test_after_some_tries_it_is_anothers_turn():
    scene = Scene([Answer(-1)] * 50)
    await nothing_but_busy(scene)
    verdict = await with_lane(scene, scene.ask)
    assert isinstance(verdict, Later)
    assert verdict.tries == 1
    assert len(scene.custom.asked) == 1 + PROBES
    assert scene.lanes["custom"].begin_probe(), "nobody is at it any more"


async def test_who_is_stopped_tries_no_more():
    scene = Scene([Answer(-1)] * 50)
    await nothing_but_busy(scene)
    verdict = await with_lane(scene, lambda: scene.ask(may_ask=lambda: len(scene.custom.asked) < 3))
    assert isinstance(verdict, Later)
    assert (verdict.reason, verdict.tries, len(scene.custom.asked)) == ("stopped", 0, 3)


async def test_without_an_outage_a_busy_answer_is_deferred_at_once():
    scene = Scene([Answer(-1)])
    verdict = await scene.ask()
    assert isinstance(verdict, Later)
    assert (verdict.tries, len(scene.custom.asked)) == (1, 1)


# -- a channel that takes lists ----------------------------------------------------------------------------


def with_mass(*script, after=()):
    """A job over `custom`, `mass` and what comes after it, and a sender."""
    clock = FakeClock()
    channels = ScriptedChannel("custom", [Answer(45015)]), ScriptedList("mass", script), *after
    return Sender(clock), open_job(clock, *channels), channels


async def asked(sender, job, openids=("o1", "o2")):
    body = job.route[1][1].list_body(openids, "j1m1")
    return await sender.ask_list(job, 1, Recipient(0, "j1m1"), body, lambda: True)


async def test_who_falls_to_a_channel_of_lists_is_gathered_and_not_asked():
    sender, job, (_, mass) = with_mass()
    assert await sender.ask(job, ANNA, lambda: True) == Gather(1)
    assert mass.asked == []


async def test_nobody_is_gathered_for_a_channel_that_is_held():
    sender, job, (*_, template) = with_mass(after=[ScriptedChannel("template")])
    job.account.lanes["mass"].put_on_hold(HoldOf.OPERATOR, "no quota")
    assert await sender.ask(job, ANNA, lambda: True) == Ended(Outcome.SENT, "template")
    assert template.asked == ["o-anna"]


async def test_a_list_that_is_taken_has_its_number():
    sender, job, (_, mass) = with_mass(Answer(msgid=7))
    assert await asked(sender, job) == Ended(Outcome.SENT, "mass", msgid=7)
    assert mass.lists == [("j1m1", ["o1", "o2"])]


async def test_a_list_of_a_held_channel_goes_on_or_halts_the_job():
    sender, job, _ = with_mass(Answer(45028))
    assert isinstance(await asked(sender, job), Halt)
    assert isinstance(sender.held_list(job, 1), Halt)
    sender, job, _ = with_mass(Answer(45028), after=[ScriptedChannel("template")])
    assert sender.held_list(job, 1) is None
    assert await asked(sender, job) == Later(0.0, "next channel", 2)
    assert sender.held_list(job, 1) == Later(0.0, "next channel", 2)


# -- what comes late ---------------------------------------------------------------------------------------


async def test_refusals_under_way_when_the_account_is_held_are_nobodys_fault():
    most = MEANINGS[50002].hold_after
    scene = Scene([*[Answer(50002)] * most, OK, Answer(50002), Answer(50002)])
    verdicts = [await scene.ask(Recipient(no, f"o-{no}")) for no in range(most + 2)]
    assert isinstance(verdicts[most - 1], Halt)
    assert verdicts[most] == Ended(Outcome.SENT, "custom")
    assert isinstance(verdicts[most + 1], Halt), "also after an answer of another kind"
    scene.job.account.streaks.begin_anew()
    assert await scene.ask(Recipient(99, "o-99")) == Ended(Outcome.REJECTED, "custom", 50002)


async def test_an_answer_from_before_the_account_was_tried_again_says_nothing_of_now():
    scene = Scene([Answer(40164)])

    def may_ask():
        scene.job.account.tried_again = 1  # somebody resumes it while the call is made
        return True

    verdict = await scene.ask(may_ask=may_ask)
    assert isinstance(verdict, Later)
    assert "40164" in verdict.reason
    assert not scene.gate.closed
