"""Mass messages over a real ledger: when they are made, and what becomes of each answer.

WeChat, the audience and the clock are scripted; what the tasks do with due slices is done by hand.
"""

import asyncio
from datetime import timedelta

import pytest
from bed.fakes import T0, FakeClock, ScriptedChannel, ScriptedList, Told, new_job, open_job, settle_down
from bed.ledgers import SqliteHome

from broadcastd.batch import Batch, DeferralRow, GatheredRow, SliceMark
from broadcastd.delivery import masses as subject
from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.inline_audience import InlineAudience
from broadcastd.delivery.lane import HoldOf
from broadcastd.delivery.masses import Masses
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.opt_outs import OptOuts
from broadcastd.delivery.sender import Sender
from broadcastd.errors import AudienceUnavailableError
from broadcastd.model import WITH_ITS_CHUNK, Deferral
from broadcastd.outcomes import Answer, Outcome
from broadcastd.pushes import NewPush, PushKind, TextMessage
from broadcastd.states import ChunkState, JobState

UNANSWERED = Answer(unanswered="no answer in time")
REFUSED = Answer(refused="no connection")
MSG_ID = 3147483685
TAKEN = Answer(msgid=MSG_ID)
MADE_BEFORE = Answer(45065, msgid=MSG_ID)
GATHER_S = 600.0


class Dispatcher:
    """Stands for `Dispatcher`: there are no slice runs here."""

    def stop_job(self, job):
        pass


class Scene:
    """One job, everybody gathered, and the masses of its account."""

    def __init__(self, home, script, *, before=(), after=()):
        self.home, self.clock = home, home.clock
        self.mass = ScriptedList("mass", script, default=TAKEN)
        self.entry = open_job(self.clock, *before, self.mass, *after)
        self.account = self.entry.account
        self.passed_on = []
        self.jobs = OpenJobs(home.ledger, {"default": self.account}, self.clock, Told())
        holds = AccountHolds(home.ledger, self.jobs, Dispatcher(), self.clock, Told())
        self.masses = Masses(
            self.account, home.ledger, self.jobs, Sender(self.clock), holds, self.clock, gather_s=GATHER_S
        )

    @property
    def ledger(self):
        return self.home.ledger

    async def accept(self, many, *, slice_size=500, planned=True, **about):
        """Everybody from 1 on is gathered."""
        names = list(self.account.channels)
        job = new_job(self.clock.now(), **about)
        job = type(job)(
            job.id, job.request, job.accepted_at, tuple(names), dict.fromkeys(names, "a post"), job.on_unknown
        )
        accepted = await self.ledger.accept(job, timedelta(0))
        self.no = accepted.job.no
        ids = list(range(1, many + 1))
        cut = [ids[at : at + slice_size] for at in range(0, many, slice_size)]
        await self.ledger.add_slices(self.no, cut, planned=planned)
        for lease in await self.lease():
            await self.gather(lease)
            await self.ledger.settle(lease, self.clock.now())
        self.jobs.add(await self.ledger.job(accepted.job.id))
        self.job = self.jobs.get(self.no)
        self.audience(ids)

    def audience(self, ids):
        rows = InlineAudience([])
        rows._rows = [(one, f"o{one}") for one in ids]
        self.job.audience = rows

    async def lease(self):
        now = self.clock.now()
        return await self.ledger.lease({self.no: 1000}, now, now + timedelta(seconds=60))

    async def gather(self, lease):
        now, no = self.clock.now(), self.mass_no
        await self.ledger.record(Batch([SliceMark(lease, lease.ids[-1])]), now)
        put_off = [
            DeferralRow(self.no, lease.slice_no, Deferral(one, WITH_ITS_CHUNK, no)) for one in lease.ids
        ]
        rows = [GatheredRow(self.no, one, f"o{one}") for one in lease.ids]
        await self.ledger.record(Batch(deferrals=put_off, gathered=rows), now)

    @property
    def mass_no(self):
        return list(self.account.channels).index("mass")

    async def work(self, rounds=50):
        """As `run` and the tasks, until there is nothing to do now."""
        for _ in range(rounds):
            busy = await self.masses._round()
            for lease in await self.lease():
                busy = True
                self.passed_on += lease.deferrals
                if not lease.deferrals:
                    await self.ledger.settle(lease, self.clock.now())
            if not busy:
                break

    async def look(self):
        return await self.ledger.job(self.job.job.id)

    async def states(self):
        return [one.state for one in await self.ledger.mass_chunks(self.no)]

    @property
    def sizes(self):
        return [len(openids) for _, openids in self.mass.lists]


@pytest.fixture
async def scene(tmp_path):
    home = SqliteHome(tmp_path, FakeClock())
    await home.open()
    yield lambda *script, **channels: Scene(home, script, **channels)
    await home.kill()


async def ended(scene, outcome, n):
    job = await scene.ledger.finish(scene.no, scene.clock.now())
    assert job is not None
    assert job.books.outcomes == {outcome: n}
    return job.books


# -- when --------------------------------------------------------------------------------------------------


async def test_25_000_are_three_lists(scene):
    scene = scene()
    await scene.accept(25_000)
    await scene.work()
    assert scene.sizes == [10_000, 10_000, 5_000]
    assert len({openid for _, openids in scene.mass.lists for openid in openids}) == 25_000
    assert len({clientmsgid for clientmsgid, _ in scene.mass.lists}) == 3
    books = await ended(scene, Outcome.SENT, 25_000)
    assert books.sent_by_channel == {"mass": 25_000}


async def test_nobody_is_left_alone(scene):
    scene = scene()
    await scene.accept(10_001)
    await scene.work()
    assert scene.sizes == [9_999, 2]


async def test_while_others_may_come_only_full_lists_are_sent_until_those_who_wait_have_waited_long(scene):
    scene = scene()
    await scene.accept(10_003, planned=False)
    await scene.work()
    assert scene.sizes == [10_000]
    scene.clock.advance(GATHER_S - 1)
    await scene.work()
    assert scene.sizes == [10_000]
    scene.clock.advance(2)
    await scene.work()
    assert scene.sizes == [10_000, 3]


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.HELD])
async def test_nobody_of_a_job_that_stands_is_asked(scene, state):
    scene = scene()
    await scene.accept(10)
    scene.job.state = state
    await scene.work()
    assert scene.sizes == []


async def test_nobody_is_asked_after_the_deadline_or_once_the_daemon_stops(scene):
    scene = scene()
    await scene.accept(10, not_after=T0 + timedelta(seconds=60))
    scene.clock.advance(61)
    await scene.work()
    assert scene.sizes == []
    scene.clock.advance(-61)
    scene.masses.stop()
    await scene.work()
    assert scene.sizes == []
    await scene.masses.run()
    await scene.masses.idle()


# -- who ---------------------------------------------------------------------------------------------------


async def test_who_is_gone_from_the_audience_is_skipped(scene):
    scene = scene()
    await scene.accept(10)
    scene.audience([1, 2, 3, 4, 5, 6, 7, 8, 10])
    await scene.work()
    assert "o9" not in scene.mass.lists[0][1]
    job = await scene.ledger.finish(scene.no, scene.clock.now())
    assert job.books.outcomes == {Outcome.SENT: 9, Outcome.SKIPPED: 1}


async def test_too_many_gone_hold_the_job_and_resume_lets_it_go_on(scene):
    scene = scene()
    await scene.accept(10)
    scene.audience([1, 2])
    await scene.work()
    job = await scene.look()
    assert job.state is JobState.HELD
    assert "8 of 10 recipients that wait for a mass message are gone" in job.reason
    await scene.ledger.resume(scene.no)
    scene.job.gone_allowed, scene.job.state = True, JobState.RUNNING
    await scene.work()
    assert scene.mass.lists[0][1] == ["o1", "o2"]


async def test_an_audience_that_cannot_be_read_is_waited_for(scene):
    scene = scene()
    await scene.accept(10)
    whole = scene.job.audience

    class Away(InlineAudience):
        async def pull(self, now, first, last):
            raise AudienceUnavailableError("gone fishing")

    scene.job.audience = Away([])
    await scene.work()
    assert "gone fishing" in scene.job.waits_for
    assert scene.sizes == []
    scene.job.audience = whole
    await scene.work()
    assert scene.job.waits_for == ""
    assert scene.sizes == [10]


async def test_one_alone_goes_on_by_the_next_channel(scene):
    scene = scene(after=[ScriptedChannel("template")])
    await scene.accept(1)
    await scene.work()
    assert [(one.recipient_id, one.channel_no) for one in scene.passed_on] == [(1, 1)]
    assert scene.sizes == []


async def test_one_alone_without_another_channel_is_rejected(scene):
    scene = scene()
    await scene.accept(1)
    await scene.work()
    books = await ended(scene, Outcome.REJECTED, 1)
    assert books.errcodes == {40130: 1}


# -- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [TAKEN, MADE_BEFORE])
async def test_taken(scene, answer):
    scene = scene(answer)
    await scene.accept(10)
    await scene.work()
    books = await ended(scene, Outcome.SENT, 10)
    assert books.in_doubt == 0
    (chunk,) = await scene.ledger.mass_chunks(scene.no)
    assert (chunk.state, chunk.msg_id, chunk.tries) == (ChunkState.SENT, MSG_ID, 1)


async def test_no_answer_is_asked_again_after_a_minute_byte_for_byte(scene):
    scene = scene(UNANSWERED, MADE_BEFORE)
    await scene.accept(10)
    await scene.work()
    assert await scene.states() == [ChunkState.ASKED]
    scene.clock.advance(59)
    await scene.work()
    assert len(scene.mass.lists) == 1
    scene.clock.advance(2)
    await scene.work()
    first, second = scene.mass.lists
    assert first == second
    assert (await ended(scene, Outcome.SENT, 10)).in_doubt == 10


async def test_after_a_start_a_chunk_in_doubt_waits_for_its_minute(scene):
    scene = scene(UNANSWERED, MADE_BEFORE)
    await scene.accept(10)
    await scene.work()
    scene.masses._again.clear()  # what a kill forgets
    scene.clock.advance(30)
    await scene.work()
    assert len(scene.mass.lists) == 1
    scene.clock.advance(31)
    await scene.work()
    assert len(scene.mass.lists) == 2


async def test_without_an_answer_for_a_day_it_is_unknown(scene):
    scene = scene(*[UNANSWERED] * 3000)
    await scene.accept(10)
    for _ in range(26):
        await scene.work()
        scene.clock.advance(3600)
    books = await ended(scene, Outcome.UNKNOWN, 10)
    assert books.in_doubt == 10
    assert len(set(map(str, scene.mass.lists))) == 1
    assert 20 < len(scene.mass.lists) < 30


async def test_the_same_within_a_minute_is_asked_after_a_minute(scene):
    scene = scene(Answer(45066), MADE_BEFORE)
    await scene.accept(10)
    await scene.work()
    scene.clock.advance(61)
    await scene.work()
    assert len(set(map(str, scene.mass.lists))) == 1
    assert (await ended(scene, Outcome.SENT, 10)).in_doubt == 0


@pytest.mark.parametrize("answer", [REFUSED, Answer(-1), Answer(45011)])
async def test_not_taken_for_now_is_asked_again_with_the_same_list(scene, answer):
    scene = scene(answer)
    await scene.accept(10)
    await scene.work()
    assert await scene.states() == [ChunkState.MADE]
    scene.clock.advance(121)
    await scene.work()
    assert len(set(map(str, scene.mass.lists))) == 1
    assert (await ended(scene, Outcome.SENT, 10)).in_doubt == 0


async def test_tries_that_are_used_up(scene):
    scene = scene(*[Answer(-1)] * 9)
    await scene.accept(10)
    for _ in range(9):
        await scene.work()
        scene.clock.advance(40)
    assert len(scene.mass.lists) == 6
    assert (await ended(scene, Outcome.FAILED, 10)).errcodes == {-1: 10}


async def test_a_chunk_in_doubt_does_not_end_by_a_refusal_of_a_later_call(scene):
    scene = scene(UNANSWERED, *[Answer(-1)] * 9, MADE_BEFORE)
    await scene.accept(10)
    for _ in range(12):
        await scene.work()
        scene.clock.advance(61)
    await ended(scene, Outcome.SENT, 10)


@pytest.mark.parametrize("code", [45028, 48001, 48003, 48008])
async def test_a_channel_that_is_held_lets_them_go_on_by_the_next_one(scene, code):
    scene = scene(Answer(code), after=[ScriptedChannel("template")])
    await scene.accept(10)
    await scene.work()
    assert [(one.recipient_id, one.channel_no) for one in scene.passed_on] == [
        (one, 1) for one in range(1, 11)
    ]
    assert scene.account.lanes["mass"].hold.kind is HoldOf.OPERATOR
    assert await scene.states() == [ChunkState.REFUSED]


@pytest.mark.parametrize("code", [45028, 48001, 48003, 48008])
async def test_a_channel_that_is_held_and_the_last_one_holds_the_job(scene, code):
    scene = scene(Answer(code), Answer(code))
    await scene.accept(10)
    await scene.work()
    job = await scene.look()
    assert (job.state, str(code) in job.reason) == (JobState.HELD, True)
    await resume(scene)
    await scene.work()
    assert (await scene.look()).state is JobState.HELD
    await resume(scene)
    await scene.work()
    assert len(set(map(str, scene.mass.lists))) == 1
    assert len(scene.mass.lists) == 3
    await ended(scene, Outcome.SENT, 10)


async def resume(scene):
    await scene.ledger.resume(scene.no)
    scene.jobs.changed(await scene.look())
    scene.account.lanes["mass"].try_now()


async def test_when_the_quota_is_used_up_they_wait_for_it(scene):
    scene = scene(Answer(45009), after=[ScriptedChannel("template")])
    await scene.accept(10)
    await scene.work()
    assert scene.account.lanes["mass"].hold.kind is HoldOf.QUOTA
    assert len(scene.mass.lists) == 1
    scene.clock.advance(3601)
    await scene.work()
    assert len(set(map(str, scene.mass.lists))) == 1
    await ended(scene, Outcome.SENT, 10)


async def test_a_lost_quota_after_a_call_in_doubt_leaves_them_waiting(scene):
    """The call in doubt may have taken the last of the quota."""
    scene = scene(UNANSWERED, Answer(45028), MADE_BEFORE, after=[ScriptedChannel("template")])
    await scene.accept(10)
    await scene.work()
    scene.clock.advance(61)
    await scene.work()
    assert await scene.states() == [ChunkState.ASKED]
    assert scene.account.lanes["mass"].held is not None
    scene.clock.advance(3601)
    await scene.work()
    await ended(scene, Outcome.SENT, 10)


@pytest.mark.parametrize("code", [45067, 45002, 47001])
async def test_our_own_mistake_holds_the_job(scene, code):
    scene = scene(Answer(code))
    await scene.accept(10)
    await scene.work()
    job = await scene.look()
    assert (job.state, str(code) in job.reason) == (JobState.HELD, True)
    assert await scene.states() == [ChunkState.MADE]
    assert job.books.in_doubt == 0


async def test_the_accounts_trouble_holds_the_account(scene):
    scene = scene(Answer(48004))
    await scene.accept(10)
    await scene.work()
    job = await scene.look()
    assert job.state is JobState.HELD
    assert job.hold.until is not None


class Picky(ScriptedList):
    """Refuses each list in which somebody wrong is."""

    wrong = frozenset()

    async def attempt(self, body, token, may_ask):
        await super().attempt(body, token, may_ask)
        return Answer(40031) if self.wrong.intersection(self.lists[-1][1]) else TAKEN


@pytest.mark.parametrize("wrong", [{"o1"}, {"o500"}, {"o1000"}])
async def test_a_list_with_a_wrong_openid_is_halved_until_two_are_left(scene, wrong):
    scene = scene()
    scene.mass.__class__ = Picky
    scene.mass.wrong = frozenset(wrong)
    await scene.accept(1000)
    await scene.work(100)
    job = await scene.ledger.finish(scene.no, scene.clock.now())
    assert job.books.outcomes[Outcome.SENT] >= 997
    assert set(job.books.errcodes) <= {40031, 40130}
    assert job.books.in_doubt == 0
    sent = [openid for _, openids in scene.mass.lists if not wrong & set(openids) for openid in openids]
    assert len(sent) == len(set(sent)) == job.books.outcomes[Outcome.SENT]


async def test_lists_that_are_all_wrong_hold_the_job_before_the_quota_is_gone(scene):
    scene = scene(*[Answer(40031)] * 999)
    await scene.accept(5000)
    await scene.work(200)
    job = await scene.look()
    assert job.state is JobState.HELD
    assert "for 20 lists in a row" in job.reason
    assert len(scene.mass.lists) == subject.REFUSED_IN_A_ROW
    assert job.books.outcomes == {}


async def test_two_of_a_refused_list_go_on_by_the_next_channel(scene):
    scene = scene(Answer(40031), after=[ScriptedChannel("template")])
    await scene.accept(2)
    await scene.work()
    assert [one.channel_no for one in scene.passed_on] == [1, 1]


# -- before and after --------------------------------------------------------------------------------------


async def test_a_list_that_waited_is_compared_with_the_audience_once_more(scene):
    scene = scene(REFUSED)
    await scene.accept(10)
    await scene.work()
    scene.audience(range(1, 10))
    scene.clock.advance(subject.RECHECK_S + 1)
    await scene.work()
    (first, second) = scene.mass.lists
    assert first[0] != second[0]
    assert "o10" not in second[1]
    job = await scene.ledger.finish(scene.no, scene.clock.now())
    assert job.books.outcomes == {Outcome.SENT: 9, Outcome.SKIPPED: 1}


async def test_the_end_of_a_job_waits_for_the_call_that_is_under_way(scene):
    scene = scene()
    seen = []
    scene.mass.script.clear()
    attempt = scene.mass.attempt

    async def look(body, token, may_ask):
        seen.append(set(scene.jobs.at_call))
        return await attempt(body, token, may_ask)

    scene.mass.attempt = look
    await scene.accept(10)
    await scene.work()
    assert seen == [{scene.no}]
    assert scene.jobs.at_call == set()
    assert scene.jobs.closing_goes_on.is_set()


def opting_out(scene):
    """The account has a callback; a push that opts out is on disk and in force."""
    opt_outs = scene.account.opt_outs = OptOuts(scene.clock)

    async def push(openid):
        text = TextMessage(openid=openid, original_id="gh_x", created_s=1, dedupe_key=openid, content="0")
        await scene.ledger.take_pushes([NewPush("default", text, PushKind.OPT_OUT)], scene.clock.now())
        opt_outs.heard(PushKind.OPT_OUT, openid)

    return push


async def test_who_opts_out_while_their_list_waits_for_its_call_is_not_in_the_call(scene):
    scene = scene()
    await scene.accept(10)
    push = opting_out(scene)
    lane = scene.account.lanes["mass"]
    enter = lane.enter

    async def opt_out_first(may_ask, **options):
        lane.enter = enter
        await push("o3")
        return await enter(may_ask, **options)

    lane.enter = opt_out_first
    await scene.work()
    assert await scene.states() == [ChunkState.REFUSED]
    await scene.work()
    (only,) = scene.mass.lists
    assert "o3" not in only[1]
    assert len(only[1]) == 9
    job = await scene.ledger.finish(scene.no, scene.clock.now())
    assert job.books.outcomes == {Outcome.SENT: 9, Outcome.SKIPPED: 1}
    assert job.books.in_doubt == 0


async def test_who_opts_out_during_the_call_is_told_so_after_it(scene):
    scene = scene()
    await scene.accept(10)
    push = opting_out(scene)
    scene.mass.hold = True
    working = asyncio.create_task(scene.work())
    while not scene.mass.waiting:
        await settle_down(1)
    await push("o3")
    quiet = asyncio.create_task(scene.account.opt_outs.quiet("o3"))
    await settle_down()
    assert not quiet.done()
    scene.mass.hold = False
    scene.mass.release()
    await working
    await quiet
    await ended(scene, Outcome.SENT, 10)
