"""The memory of followers on its own, and in the hands of sender and slice run."""

import dataclasses
from datetime import timedelta
from itertools import count

import pytest
from bed.fakes import OK, T0, FakeClock, FakeRecorder, ScriptedChannel, a_job, open_job
from structlog.testing import capture_logs

from broadcastd.batch import Learned
from broadcastd.delivery.answered import Recipient
from broadcastd.delivery.memory import (
    DOUBT_S,
    FEWEST_SAMPLES,
    SAMPLED,
    Memory,
    Recollection,
)
from broadcastd.delivery.sender import Sender
from broadcastd.delivery.slice_run import SliceRun
from broadcastd.delivery.slots import SharedParts
from broadcastd.delivery.window import DEAF, HEARING
from broadcastd.errcodes import Note
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Deferral, Known, Lease
from broadcastd.outcomes import Answer, Ended, Later, Outcome

CLOSED = Known(closed_at=T0)
GONE = Known(gone_code=43004, gone_at=T0)
REFUSED = Known(refused_at=T0)
OUTSIDE = Answer(45015)


class FakeFollowers:
    """As much of `Ledger` as the memory reads."""

    def __init__(self, known=None):
        self.all = known or {}
        self.queries = []
        self.trouble = ""

    async def known(self, account, openids):
        if self.trouble:
            raise LedgerUnavailableError(self.trouble)
        self.queries.append(list(openids))
        return {openid: self.all[openid] for openid in openids if openid in self.all}


class Scene:
    """A job over scripted channels, whose followers are remembered."""

    def __init__(self, known, channels=("custom", "template"), trust=HEARING, **answers):
        self.clock = FakeClock()
        self.ledger = FakeFollowers(known)
        self.channels = {name: ScriptedChannel(name, answers.get(name, ())) for name in channels}
        self.job = open_job(self.clock, *self.channels.values())
        self.memory = self.job.account.memory = Memory("default", self.ledger, self.clock, trust)
        self.sender = Sender(self.clock)
        self.round_no = 1

    def asked(self, name):
        return self.channels[name].asked

    async def follower(self, openid):
        recollection = await self.memory.recall(self.job.job, self.round_no, [openid])
        return recollection.of(openid)

    async def ask(self, openid, *, may_ask=lambda: True, **about):
        """The verdict, and what it saved and taught."""
        follower = await self.follower(openid)
        who = Recipient(17, openid, follower=follower, **about)
        verdict = await self.sender.ask(self.job, who, may_ask)
        return verdict, follower.saved, follower.learned

    def learnt(self, openid, note, errcode):
        return Learned("default", openid, note, errcode, self.clock.now())


def drawn(scene, *, sampled):
    """Names of those that are put to the test, or are not."""
    recollection = Recollection(scene.memory, scene.job.job, 1, {})
    for number in count(1):
        if recollection.is_sampled(f"o{number}") is sampled:
            yield f"o{number}"


@pytest.fixture
def anna():
    """Somebody whose guess is believed in this job."""
    return next(drawn(Scene({}), sampled=False))


@pytest.fixture
def sam():
    """Somebody whose guess is put to the test in this job."""
    return next(drawn(Scene({}), sampled=True))


# -- one recipient -----------------------------------------------------------------------------------------


async def test_of_whom_nothing_is_known_everything_is_tried_and_a_success_teaches_nothing(anna):
    scene = Scene({})
    assert await scene.ask(anna) == (Ended(Outcome.SENT, "custom"), 0, [])


async def test_a_refusal_is_remembered(anna):
    scene = Scene({}, custom=[OUTSIDE])
    verdict, saved, learned = await scene.ask(anna)
    assert (verdict, saved) == (Ended(Outcome.SENT, "template"), 0)
    assert learned == [scene.learnt(anna, Note.CLOSED, 45015)]


async def test_who_is_outside_the_window_is_not_asked_by_custom(anna):
    scene = Scene({anna: CLOSED})
    assert await scene.ask(anna) == (Ended(Outcome.SENT, "template"), 1, [])
    assert scene.asked("custom") == []


async def test_without_another_channel_custom_is_tried_all_the_same(anna):
    scene = Scene({anna: CLOSED}, channels=["custom"])
    verdict, saved, learned = await scene.ask(anna)
    assert (verdict, saved) == (Ended(Outcome.SENT, "custom"), 0)
    assert learned == [scene.learnt(anna, Note.CLOSED, 0)]


async def test_both_of_three_channels_are_spared(anna):
    both = Known(closed_at=T0, refused_at=T0)
    scene = Scene({anna: both}, channels=["custom", "subscribe", "template"])
    assert await scene.ask(anna) == (Ended(Outcome.SENT, "template"), 2, [])
    assert scene.asked("custom") == scene.asked("subscribe") == []


async def test_no_consent_is_learnt_of_subscribe_only(anna):
    scene = Scene({}, channels=["subscribe", "template"], subscribe=[Answer(43101)])
    _, _, learned = await scene.ask(anna)
    assert learned == [scene.learnt(anna, Note.NO_CONSENT, 43101)]
    scene = Scene({}, template=[Answer(43101)], custom=[OUTSIDE])
    _, _, learned = await scene.ask(anna)
    assert learned == [scene.learnt(anna, Note.CLOSED, 45015)]


@pytest.mark.parametrize("errcode", [43004, 50005, 48002])
async def test_who_is_gone_is_rejected_with_the_former_errcode_and_no_call(anna, errcode):
    scene = Scene({anna: Known(gone_code=errcode, gone_at=T0)})
    assert await scene.ask(anna) == (Ended(Outcome.REJECTED, "", errcode), 1, [])
    assert scene.asked("custom") == scene.asked("template") == []


@pytest.mark.parametrize("errcode", [43004, 50005, 48002])
async def test_who_is_gone_is_remembered(anna, errcode):
    scene = Scene({}, custom=[OUTSIDE], template=[Answer(errcode)])
    verdict, _, learned = await scene.ask(anna)
    assert verdict == Ended(Outcome.REJECTED, "template", errcode)
    assert learned == [scene.learnt(anna, Note.CLOSED, 45015), scene.learnt(anna, Note.GONE, errcode)]


@pytest.mark.parametrize("errcode", [40003, 43019, 49003, 50002, 45002, 45009, -1, 99999])
async def test_other_refusals_teach_nothing(anna, errcode):
    scene = Scene({}, channels=["custom"], custom=[Answer(errcode)])
    _, _, learned = await scene.ask(anna)
    assert learned == []


async def test_an_accepted_message_erases_what_it_disproves_and_counts_down_an_open_window(anna):
    open_window = Known(window_until=T0 + timedelta(hours=1), window_left=2)
    scene = Scene({anna: open_window})
    assert await scene.ask(anna) == (
        Ended(Outcome.SENT, "custom"), 0, [scene.learnt(anna, Note.CLOSED, 0)]
    )  # fmt: skip
    old = Known(gone_code=43004, gone_at=T0 - timedelta(days=8), refused_at=T0)
    scene = Scene({anna: old})
    assert (await scene.ask(anna))[2] == [scene.learnt(anna, Note.GONE, 0)]


async def test_a_used_up_window_spares_the_call(anna):
    scene = Scene({anna: Known(window_until=T0 + timedelta(hours=1), window_left=0)})
    assert await scene.ask(anna) == (Ended(Outcome.SENT, "template"), 1, [])


async def test_without_a_callback_a_guess_ages_sooner(anna):
    for trust, calls in ((HEARING, 0), (DEAF, 1)):
        scene = Scene({anna: CLOSED}, trust=trust)
        scene.clock.advance(3601)
        await scene.ask(anna)
        assert len(scene.asked("custom")) == calls


async def test_who_may_have_got_the_message_by_custom_is_asked_by_custom_again(anna):
    scene = Scene({anna: CLOSED})
    assert await scene.ask(anna, doubts=1) == (
        Ended(Outcome.SENT, "custom"), 0, [scene.learnt(anna, Note.CLOSED, 0)]
    )  # fmt: skip
    scene = Scene({anna: GONE})
    assert (await scene.ask(anna, doubts=1))[0] == Ended(Outcome.SENT, "custom")


async def test_who_may_not_be_asked_is_not_rejected_from_memory_either(anna):
    scene = Scene({anna: GONE})
    verdict, saved, _ = await scene.ask(anna, may_ask=lambda: False)
    assert isinstance(verdict, Later)
    assert saved == 0


async def test_a_retry_asks_those_who_are_gone_and_spares_custom_all_the_same(anna):
    scene = Scene({anna: GONE})
    scene.round_no = 2
    assert (await scene.ask(anna))[0] == Ended(Outcome.SENT, "custom")
    scene = Scene({anna: CLOSED})
    scene.round_no = 2
    assert await scene.ask(anna) == (Ended(Outcome.SENT, "template"), 1, [])


@pytest.mark.parametrize("known", [CLOSED, GONE])
async def test_a_test_send_asks_everybody_and_still_learns(anna, known):
    scene = Scene({anna: known})
    scene.job.job = dataclasses.replace(scene.job.job, to=(anna,))
    verdict, saved, learned = await scene.ask(anna)
    assert (verdict, saved) == (Ended(Outcome.SENT, "custom"), 0)
    assert [one.errcode for one in learned] == [0]


# -- wrong guesses -----------------------------------------------------------------------------------------


async def test_one_in_fifty_is_tried_all_the_same_others_in_another_job():
    scene = Scene({})
    names = [f"o{number:027}" for number in range(20_000)]
    recollection = await scene.memory.recall(scene.job.job, 1, [])
    another = await scene.memory.recall(dataclasses.replace(a_job(), id="janother"), 1, [])
    tried = {one for one in names if recollection.is_sampled(one)}
    others = {one for one in names if another.is_sampled(one)}
    for some in (tried, others):
        assert 0.8 < len(some) / (len(names) / SAMPLED) < 1.2
    assert len(tried & others) < len(tried) / 4


async def test_who_is_tried_all_the_same_and_still_refused_is_remembered_anew(sam):
    scene = Scene({sam: CLOSED}, custom=[OUTSIDE])
    assert await scene.ask(sam) == (
        Ended(Outcome.SENT, "template"), 0, [scene.learnt(sam, Note.CLOSED, 45015)]
    )  # fmt: skip


async def test_who_is_tried_all_the_same_and_reached_is_forgotten(sam):
    scene = Scene({sam: GONE})
    assert await scene.ask(sam) == (Ended(Outcome.SENT, "custom"), 0, [scene.learnt(sam, Note.GONE, 0)])


async def put_to_the_test(scene, answers):
    people = drawn(scene, sampled=True)
    for answer, openid in zip(answers, people, strict=False):
        scene.ledger.all[openid] = CLOSED
        scene.channels["custom"].script.append(answer)
        await scene.ask(openid)


async def test_a_few_wrong_guesses_prove_nothing(anna):
    scene = Scene({anna: CLOSED})
    await put_to_the_test(scene, [OK] * (FEWEST_SAMPLES - 1))
    assert not scene.memory.is_doubted(Note.CLOSED)
    scene = Scene({anna: CLOSED})
    await put_to_the_test(scene, ([OUTSIDE] * 11 + [OK]) * 20)
    assert not scene.memory.is_doubted(Note.CLOSED)


async def test_too_many_wrong_guesses_and_the_memory_is_not_used_for_an_hour(anna):
    scene = Scene({anna: CLOSED})
    with capture_logs() as logs:
        await put_to_the_test(scene, [OUTSIDE] * 17 + [OK] * 3)
    (line,) = [one for one in logs if one["event"] == "window_memory_doubted"]
    assert (line["account"], line["wrong"], line["tried"]) == ("default", 3, 20)
    scene.channels["custom"].asked.clear()
    await scene.ask(anna)
    assert scene.asked("custom") == [anna]
    assert not scene.memory.is_doubted(Note.GONE), "that is another kind of guess"
    scene.ledger.all[anna] = Known(closed_at=scene.clock.now() + timedelta(seconds=DOUBT_S))
    scene.clock.advance(DOUBT_S)
    scene.channels["custom"].asked.clear()
    await scene.ask(anna)
    assert scene.asked("custom") == []


async def test_what_says_nothing_of_the_guess_does_not_count(sam):
    scene = Scene({sam: CLOSED})
    for _ in range(100):
        scene.channels["custom"].script.append(Answer(-1))
        await scene.ask(sam)
    scene.channels["custom"].script.extend([OK] * (FEWEST_SAMPLES - 1))
    for _ in range(FEWEST_SAMPLES - 1):
        await scene.ask(sam)
    assert not scene.memory.is_doubted(Note.CLOSED)


# -- a slice -----------------------------------------------------------------------------------------------


async def test_a_slice_is_looked_up_in_queries_of_at_most_500():
    scene = Scene({"o900": CLOSED})
    names = [f"o{number}" for number in range(1200)]
    recollection = await scene.memory.recall(scene.job.job, 1, names)
    assert [len(query) for query in scene.ledger.queries] == [500, 500, 200]
    assert recollection.of("o900").spare("custom", has_next=True) == 45015
    assert recollection.of("o901").spare("custom", has_next=True) == 0


async def test_a_ledger_that_cannot_be_read_costs_calls_and_nothing_else(anna):
    scene = Scene({anna: CLOSED})
    scene.ledger.trouble = "the disk is away"
    with capture_logs() as logs:
        verdict, saved, _ = await scene.ask(anna)
    assert (verdict, saved) == (Ended(Outcome.SENT, "custom"), 0)
    assert [one["event"] for one in logs] == ["window_memory_unreadable"]


async def test_a_slice_run_hands_on_what_was_saved_and_learnt():
    scene = Scene({}, custom=[OUTSIDE] * 4)
    ids = range(1, 41)
    openids = [openid for openid, _ in zip(drawn(scene, sampled=False), ids, strict=False)]
    scene.ledger.all = dict.fromkeys(openids[:30], CLOSED)
    recorder = FakeRecorder()
    lease = Lease(5, 1, 77, tuple(ids), tuple(ids[2:]), (Deferral(1, T0), Deferral(2, T0, channel_no=1)))
    recollection = await scene.memory.recall(scene.job.job, 1, openids)
    rows = list(zip(ids, openids, strict=True))
    shared = SharedParts(scene.sender, recorder, scene.clock)
    run = SliceRun(lease, scene.job, rows, shared, recollection=recollection)
    await run.run()
    assert len(recorder.outcomes) == 40
    assert {row.channel for row in recorder.outcomes[:30]} == {"template"}
    assert recorder.saved == {5: 29}, "the second was on the next channel already"
    assert [one.openid for one in recorder.learned] == openids[30:34]
    assert scene.asked("custom") == openids[30:]
