"""Any sequence of changes of a ledger, kills included: nobody lost, nobody twice, the books right."""

import asyncio
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from bed.fakes import FakeClock, new_job
from bed.ledgers import LEDGER_PARAMS, LEDGERS
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from broadcastd.batch import Batch, DeferralRow, OutcomeRow, SentOn, SliceMark
from broadcastd.clock import to_ms
from broadcastd.errors import JobEndedError, KeyConflictError
from broadcastd.model import RETRIABLE, Deferral, OnUnknown, Split
from broadcastd.outcomes import Outcome
from broadcastd.states import JOB_ARROWS, JOB_CLOSING, JOB_TERMINAL, JobState

LEASE = timedelta(seconds=60)
# What a crash of the machine leaves is not looked at here: thousands of commits need no disk.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
PICK = st.integers(0, 999)
EXAMPLES = {"sqlite": 20, "mysql": 8}


class Machine(RuleBasedStateMachine):
    make_home = None
    jobs = Bundle("jobs")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="bd-ledger-", dir=IN_MEMORY)
        self.clock = FakeClock()
        self.home = type(self).make_home(Path(self.folder.name), self.clock)
        self.numbers = 0
        self.states = {}
        self.keys = {}
        self.next_id = Counter()
        self.planned = set()
        self.through = {}
        """Job to the last id that its present round has frozen."""
        self.rounds = Counter()
        """Job to its present round."""
        self.first_outcome = {}
        """(job, recipient, round) to the outcome that was written first."""
        self.in_doubt = Counter()
        self.will_doubt = Counter()
        self.leases = {}
        """Token to [lease, mark, fresh deferrals]: what a task would know."""

    def do(self, change):
        return self.runner.run(change)

    @property
    def ledger(self):
        return self.home.ledger

    def teardown(self):
        try:
            self.do(self.finish_everything())
        finally:
            self.do(self.home.kill())
            self.runner.close()
            self.folder.cleanup()

    @initialize()
    def start(self):
        self.do(self.home.open())

    # -- what the daemon does ------------------------------------------------------------------------------

    @rule(target=jobs, key=st.sampled_from([None, "k1", "k2"]), content=st.sampled_from(["a", "b"]),
          leave=st.booleans())  # fmt: skip
    def accept(self, key, content, leave):
        self.numbers += 1
        kind = OnUnknown.LEAVE if leave else OnUnknown.RESEND
        # Without a key each is a job of its own; a key stays with its content.
        job = new_job(self.clock.now(), id=f"j{self.numbers}", key=key, content=content, on_unknown=kind)
        try:
            accepted = self.do(self.ledger.accept(job, timedelta(0)))
        except KeyConflictError as conflict:
            first_no, first_content, _ = self.keys[key]
            assert (conflict.job_id, content) == (f"j{first_no}", ({"a", "b"} - {first_content}).pop())  # noqa: PT017
            return self.keys[key][2]
        assert accepted.repeat == (key in self.keys)
        if accepted.repeat:
            assert self.keys[key][1:] == (content, accepted.job.no)
        elif key is not None:
            self.keys[key] = (self.numbers, content, accepted.job.no)
        self.states.setdefault(accepted.job.no, JobState.ACCEPTED)
        self.rounds[accepted.job.no] = max(1, self.rounds[accepted.job.no])
        return accepted.job.no

    @rule(job=jobs, sizes=st.lists(st.integers(1, 6), max_size=3), last=st.booleans())
    def plan(self, job, sizes, last):
        if job in self.planned:
            return
        slices = self.retried(job, sizes) if self.rounds[job] > 1 else self.fresh(job, sizes)
        last = last and self.next_id[job] > 0
        try:
            self.do(self.ledger.add_slices(job, slices, planned=last))
        except JobEndedError:
            assert self.states[job] in JOB_CLOSING | JOB_TERMINAL
            return
        self.through[job] = slices[-1][-1] if slices else self.through.get(job)
        if last and self.rounds[job] == 1:
            self.planned.add(job)

    def fresh(self, job, sizes):
        slices = []
        for size in sizes:
            first = self.next_id[job] + 3
            slices.append(list(range(first, first + 2 * size, 2)))
            self.next_id[job] = slices[-1][-1]
        return slices

    def retried(self, job, sizes):
        """Whom the round is for, a few at a time; all of them once nobody is left."""
        ids = self.do(self.ledger.retried_ids(job, self.through.get(job), 1000))
        assert ids == sorted(set(ids))
        ids = ids[: sum(sizes) or 1000]
        return [ids[at : at + 4] for at in range(0, len(ids), 4)]

    @rule(job=jobs, share=st.integers(1, 3))
    def lease(self, job, share):
        now = self.clock.now()
        for lease in self.do(self.ledger.lease({job: share}, now, now + LEASE)):
            for one in (*lease.unasked, *(other.recipient_id for other in lease.deferrals)):
                assert (job, one, lease.round_no) not in self.first_outcome, "who ended would be asked again"
            assert self.states[job] is JobState.RUNNING, "nobody of a job that stands is leased"
            self.leases[lease.token] = lease

    def one_lease(self, pick):
        return list(self.leases.values())[pick % len(self.leases)] if self.leases else None

    @rule(
        pick=PICK,
        many=st.integers(1, 4),
        arm=st.booleans(),
        fates=st.lists(st.integers(0, 7), min_size=8, max_size=8),
    )
    def let_through(self, pick, many, arm, fates):
        """A mark, and what became of those that it let through: fate 6 and 7 are not reported at all."""
        lease = self.one_lease(pick)
        if lease is None:
            return
        fresh = lease.unasked[:many]
        waiting = {one.recipient_id: one for one in lease.deferrals if one.due_at <= self.clock.now()}
        armed = list(waiting)[:many] if arm else []
        if not fresh and not armed:
            return
        mark = SliceMark(lease, fresh[-1] if fresh else None, armed)
        if lease.token in self.do(self.ledger.record(Batch([mark]), self.clock.now())):
            del self.leases[lease.token]
            return
        self.report(lease, [*armed, *fresh], waiting, fates)
        rest = tuple(one for one in lease.deferrals if one.recipient_id not in armed)
        self.leases[lease.token] = type(lease)(
            lease.job_no,
            lease.slice_no,
            lease.token,
            lease.ids,
            lease.unasked[len(fresh) :],
            rest,
            lease.round_no,
        )

    def report(self, lease, asked, waiting, fates):
        batch, now = Batch(), self.clock.now()
        for one, fate in zip(asked, fates, strict=False):
            was = waiting.get(one)
            if fate < 4:
                outcome = list(Outcome)[fate]
                row = self.row(lease, one, outcome, fate, deferred=was is not None)
                if outcome is Outcome.SENT and was is None and one % 2:
                    sent = batch.sent.setdefault(SentOn(lease.job_no, lease.round_no, "custom"), [])
                    sent.append((one, row.openid, to_ms(now), None))
                else:
                    batch.outcomes += [row] if one % 3 else [row, row]
                self.first_outcome.setdefault((lease.job_no, one, lease.round_no), outcome)
            elif fate < 6:
                doubtful = fate == 5
                doubts = (was.doubts if was else 0) + doubtful
                again = Deferral(one, now + timedelta(seconds=10 * fate), tries=1, doubts=doubts)
                batch.deferrals.append(DeferralRow(lease.job_no, lease.slice_no, again, doubtful))
                self.in_doubt[lease.job_no] += doubtful
        self.do(self.ledger.record(batch, now))

    def row(self, lease, one, outcome, errcode=0, *, deferred):
        now = self.clock.now()
        return OutcomeRow(
            lease.job_no, one, f"o{one}", outcome, "custom", errcode, now, deferred, lease.round_no
        )

    @rule(pick=PICK)
    def split(self, pick):
        lease = self.one_lease(pick)
        if lease is None or len(lease.unasked) < 3:
            return
        first = lease.unasked[len(lease.unasked) // 2]
        keep = tuple(one for one in lease.ids if one < first)
        give = tuple(one for one in lease.ids if one >= first)
        now = self.clock.now()
        (given,) = self.do(self.ledger.split([Split(lease, keep, give)], now, now + LEASE))
        if given is None:
            del self.leases[lease.token]
            return
        left = tuple(one for one in lease.unasked if one < first)
        self.leases[lease.token] = type(lease)(
            lease.job_no, lease.slice_no, lease.token, keep, left, lease.deferrals, lease.round_no
        )
        self.leases[given.token] = given

    @rule(pick=PICK)
    def settle(self, pick):
        lease = self.one_lease(pick)
        if lease is not None:
            del self.leases[lease.token]
            settled = self.do(self.ledger.settle(lease, self.clock.now()))
            if settled.done:
                ended = self.history()
                assert all((lease.job_no, one, lease.round_no) in ended for one in lease.ids)

    @rule(pick=PICK, outcome=st.sampled_from(Outcome))
    def say_again(self, pick, outcome):
        """An outcome that was reported comes once more, and differently: the first stays."""
        if self.first_outcome:
            job, one, round_no = list(self.first_outcome)[pick % len(self.first_outcome)]
            row = OutcomeRow(job, one, None, outcome, "template", 0, self.clock.now(), round_no=round_no)
            self.do(self.ledger.record(Batch(outcomes=[row]), self.clock.now()))

    @rule()
    def kill(self):
        self.do(self.home.kill())
        self.do(self.home.open())
        self.leases.clear()
        assert self.home.rows("SELECT count(*) FROM slices WHERE state = 'leased'") == [(0,)]

    @rule(seconds=st.sampled_from([1, 40, 61]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(work=st.booleans())
    def sweep(self, work):
        self.do(self.ledger.recover(list(self.leases) if work else [], self.clock.now()))

    @rule()
    def renew(self):
        now = self.clock.now()
        self.do(self.ledger.renew(now, now + LEASE))

    @rule(
        job=jobs,
        to=st.sampled_from([JobState.HELD, JobState.PAUSED, JobState.CANCELLING, JobState.EXPIRING]),
    )
    def move(self, job, to):
        moved = self.do(self.ledger.move(job, to, "a reason"))
        assert moved == (to in JOB_ARROWS[self.states[job]])

    @rule(job=jobs)
    def resume(self, job):
        stands = self.states[job] in (JobState.HELD, JobState.PAUSED)
        assert self.do(self.ledger.resume(job)) == stands

    @rule(job=jobs, limit=st.integers(1, 3))
    def close(self, job, limit):
        if self.states[job] in JOB_CLOSING:
            left = self.do(self.ledger.close_slices(job, limit, self.clock.now()))
            assert [(left,)] == self.unfinished(job)

    def unfinished(self, job):
        return self.home.rows(f"SELECT count(*) FROM slices WHERE job_no = {job} AND state != 'done'")

    @rule(job=jobs, only=st.sets(st.sampled_from(RETRIABLE), min_size=1), step=st.sampled_from([0, 1, 2]))
    def retry(self, job, only, step):
        wanted = self.rounds[job] + step
        before = {who for who, outcome in self.outcomes().items() if who[0] == job and outcome in only}
        doubtful = {who for who in before if self.outcomes()[who] is Outcome.UNKNOWN}
        begun = self.do(self.ledger.retry(job, wanted, sorted(only), self.clock.now(), None))
        assert begun == (step == 1 and self.states[job] in JOB_TERMINAL and bool(before))
        if begun:
            self.rounds[job] = wanted
            self.through.pop(job, None)
            self.planned.discard(job)
            # What a retry of these may repeat is counted by the time that they are all frozen.
            self.will_doubt[job] = len(doubtful)

    @rule(job=jobs)
    def finish(self, job):
        self.do(self.finish_one(job))

    async def finish_one(self, job):
        ended = sum(no == job for no, _ in self.outcomes())
        frozen, planned = self.home.rows(f"SELECT recipients, planned FROM jobs WHERE no = {job}")[0]
        (of_round,) = self.home.rows(
            f"SELECT recipients, ended FROM rounds WHERE job_no = {job} AND no = {self.rounds[job]}"
        )
        asked = self.states[job] is JobState.RUNNING and planned and frozen and of_round[0] == of_round[1]
        may = (
            bool(asked or self.states[job] in JOB_CLOSING)
            and self.unfinished(job) == [(0,)]
            and ended == frozen
        )
        assert (await self.ledger.finish(job, self.clock.now()) is not None) == may

    # -- what must hold ------------------------------------------------------------------------------------

    def outcomes(self):
        found = self.home.rows("SELECT job_no, recipient_id, outcome FROM outcomes")
        ended = {(job, one): Outcome(outcome) for job, one, outcome in found}
        assert len(ended) == len(found), "somebody has two outcomes"
        return ended

    @invariant()
    def the_books_are_a_count_over_the_outcomes(self):
        if not self.states:
            return
        ended = self.outcomes()
        for job in self.do(self.ledger.jobs(1000)):
            mine = Counter(outcome for (no, _), outcome in ended.items() if no == job.no)
            assert job.books.outcomes == mine
            of_round = "SELECT coalesce(sum(size), 0) FROM slices WHERE job_no = {} AND round = {}"
            assert self.home.rows(of_round.format(job.no, 1)) == [(job.books.recipients,)]
            assert self.home.rows(of_round.format(job.no, job.round.no)) == [(job.round.recipients,)]
            assert job.round.no == self.rounds[job.no]
            mine = [who for who in self.history() if who[0] == job.no and who[2] == job.round.no]
            assert job.round.ended == len(mine)
            assert job.books.in_doubt >= self.in_doubt[job.no], "in_doubt is cumulative"
            self.in_doubt[job.no] = job.books.in_doubt

    def history(self):
        """(job, recipient, round) to outcome: what is, and what later rounds have replaced."""
        rows = self.home.rows(
            "SELECT job_no, recipient_id, round, outcome FROM outcomes"
            " UNION ALL SELECT job_no, recipient_id, round, outcome FROM former_outcomes"
        )
        found = {row[:3]: Outcome(row[3]) for row in rows}
        assert len(found) == len(rows), "somebody has two outcomes of one round"
        return found

    @invariant()
    def a_first_outcome_of_a_round_stays(self):
        if self.states:
            found = self.history()
            assert {who: found[who] for who in self.first_outcome} == self.first_outcome
            self.first_outcome = found

    @invariant()
    def the_present_outcome_is_that_of_the_last_round(self):
        if self.states:
            present = self.home.rows("SELECT job_no, recipient_id, round FROM outcomes")
            last = {}
            for job, one, round_no in self.history():
                last[job, one] = max(round_no, last.get((job, one), 0))
            assert {(job, one): round_no for job, one, round_no in present} == last

    @invariant()
    def states_move_along_arrows(self):
        if not self.states:
            return
        for job in self.do(self.ledger.jobs(1000)):
            before = self.states[job.no]
            assert job.state is before or job.state in JOB_ARROWS[before]
            assert job.state not in JOB_TERMINAL or job.books.balanced
            self.states[job.no] = job.state

    async def finish_everything(self):
        """Whatever happened: everybody can be sent and every job finished."""
        await self.home.kill()
        await self.home.open()
        going = [job for job in self.states if self.states[job] not in JOB_TERMINAL | JOB_CLOSING]
        for job in going:
            await self.ledger.resume(job)
            await self.plan_rest(job)
            self.states[job] = JobState.RUNNING
        self.clock.advance(3600)
        now = self.clock.now()
        for lease in await self.ledger.lease(dict.fromkeys(self.states, 1000), now, now + LEASE):
            assert lease.job_no in going
            await self.send_whole(lease)
        for job in self.states:
            if self.states[job] in JOB_CLOSING:
                assert await self.ledger.close_slices(job, 1000, now) == 0
            if self.states[job] not in JOB_TERMINAL:
                await self.finish_one(job)
        assert all(job.state in JOB_TERMINAL for job in await self.ledger.jobs(1000))
        due = "SELECT count(*) FROM deferrals AS d JOIN outcomes AS o USING (job_no, recipient_id)"
        assert self.home.rows(f"{due} JOIN jobs ON no = job_no WHERE d.armed AND o.round >= jobs.round") == [
            (0,)
        ]

    async def plan_rest(self, job):
        if job in self.planned:
            return
        if self.rounds[job] > 1:
            (already,) = self.home.rows(f"SELECT planned FROM jobs WHERE no = {job}")
            ids = await self.ledger.retried_ids(job, self.through.get(job), 1000)
            if not already[0]:
                await self.ledger.add_slices(job, [ids] if ids else [], planned=True)
            (doubts,) = self.home.rows(f"SELECT in_doubt FROM jobs WHERE no = {job}")
            assert doubts[0] >= self.will_doubt[job]
        else:
            self.next_id[job] += 3
            await self.ledger.add_slices(job, [[self.next_id[job]]], planned=True)
        self.planned.add(job)

    async def send_whole(self, lease):
        now = self.clock.now()
        wanted = [*lease.unasked, *(one.recipient_id for one in lease.deferrals)]
        assert len(wanted) == len(set(wanted)), "somebody would be asked twice"
        deferred = {one.recipient_id for one in lease.deferrals}
        mark = SliceMark(lease, lease.ids[-1], sorted(deferred))
        rows = [self.row(lease, one, Outcome.SENT, deferred=one in deferred) for one in wanted]
        assert not await self.ledger.record(Batch([mark], rows), now)
        assert (await self.ledger.settle(lease, now)).done


@pytest.mark.parametrize("name", LEDGER_PARAMS)
def test_any_sequence_of_changes(name, long_run, request):
    machine = type(f"Machine_{name}", (Machine,), {"make_home": staticmethod(LEDGERS[name](request))})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=300 if long_run else EXAMPLES[name],
            stateful_step_count=60 if long_run else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
