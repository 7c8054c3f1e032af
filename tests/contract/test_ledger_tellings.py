"""The port `TellingLedger`: which jobs have ended without their site knowing it."""
# ruff: noqa: F811 - fixtures

from test_ledger_contract import bench, home  # noqa: F401
from test_ledger_rounds import FAILED, done_job, plan_retry, retry

from broadcastd.outcomes import Outcome

SENT = {1: Outcome.SENT, 2: Outcome.FAILED}


async def begin(bench, *accounts):
    await bench.ledger.begin_telling(accounts, bench.clock.now())


async def untold(bench, account="default", after=0, limit=100):
    return [job.no for job in await bench.ledger.untold(account, after, limit)]


async def note_told(bench, no, round_no=1):
    await bench.ledger.note_told(no, round_no, bench.clock.now())


async def test_what_has_ended_is_to_be_told_once_also_after_a_kill(bench):
    await begin(bench, "default")
    await bench.job([9], id="open")
    first, second = [await done_job(bench, SENT, id=id) for id in ("j1", "j2")]
    assert await untold(bench) == [first, second]
    assert await untold(bench, after=first) == [second]
    assert await untold(bench, limit=1) == [first]
    assert await untold(bench, "other") == []
    (job, _) = await bench.ledger.untold("default", 0, 9)
    assert job.books.outcomes == {Outcome.SENT: 1, Outcome.FAILED: 1}
    await bench.reopen()
    await begin(bench, "default")
    assert await untold(bench) == [first, second]
    await note_told(bench, first)
    await bench.reopen()
    await begin(bench, "default")
    assert await untold(bench) == [second]


async def test_what_ended_before_its_account_had_a_hook_counts_as_told(bench):
    await begin(bench)
    await done_job(bench, SENT, id="j1")
    await begin(bench, "default")
    assert await untold(bench) == []
    no = await done_job(bench, SENT, id="j2")
    assert await untold(bench) == [no]
    await bench.reopen()
    await begin(bench)  # its hook is taken away, and comes back later
    await begin(bench, "default")
    assert await untold(bench) == []


async def test_another_accounts_hook_changes_nothing(bench):
    await begin(bench, "default")
    no = await done_job(bench, SENT)
    other = await done_job(bench, SENT, id="j9", account="other")
    await begin(bench, "default", "other")
    assert await untold(bench) == [no]
    assert await untold(bench, "other") == []
    assert other != no


async def test_a_retrys_end_is_told_again(bench):
    await begin(bench, "default")
    no = await done_job(bench, SENT)
    await note_told(bench, no)
    assert await retry(bench, no, 2, FAILED)
    assert await untold(bench) == [], "it goes on"
    await note_told(bench, no)
    await plan_retry(bench, no)
    lease = await bench.one(no)
    await bench.mark(lease, 2)
    await bench.record(outcomes=[bench.row(no, 2, round_no=2)])
    await bench.settle(lease)
    await bench.ledger.finish(no, bench.clock.now())
    await note_told(bench, no, round_no=1)
    assert await untold(bench) == [no], "that was the former round's"
    await note_told(bench, no, round_no=2)
    assert await untold(bench) == []


async def test_a_job_that_had_nobody_to_send_to_is_told_too(bench):
    await begin(bench, "default")
    no = (await bench.accept()).job.no
    await bench.ledger.add_slices(no, [], planned=True, may_be_empty=True)
    assert await untold(bench) == [no]
