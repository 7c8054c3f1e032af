"""The port `Ledger`: outcomes `sent` that come together come to the same as if each came by itself."""
# ruff: noqa: F811 - fixtures

import dataclasses

import pytest
from test_ledger_contract import bench, home  # noqa: F401
from test_ledger_rounds import done_job, plan_retry, retry

from broadcastd.batch import Batch, SentOn
from broadcastd.clock import to_ms
from broadcastd.ledgers.plain_sql import MOST_ROWS
from broadcastd.outcomes import Outcome

TABLES = {
    "outcomes": "recipient_id, openid, outcome, channel, errcode, at, round",
    "former_outcomes": "recipient_id, round, openid, outcome, channel, errcode, at",
    "tallies": "outcome, channel, errcode, n",
    "rounds": "no, recipients, ended",
    "receipts": "channel, msgid, openid, recipient_id, status",
}


@pytest.fixture
def together(bench):
    async def record(rows):
        batch = Batch()
        for row in rows:
            on = SentOn(row.job_no, row.round_no, row.channel)
            batch.sent.setdefault(on, []).append((row.recipient_id, row.openid, to_ms(row.at), row.msgid))
        await bench.ledger.record(batch, bench.clock.now())

    return record


@pytest.fixture
def one_by_one(bench):
    async def record(rows):
        await bench.ledger.record(Batch(outcomes=list(rows)), bench.clock.now())

    return record


def standing(bench, no):
    """All that a job's outcomes leave in the tables."""
    found = {
        table: sorted(bench.home.rows(f"SELECT {columns} FROM {table} WHERE job_no = {no}"), key=repr)
        for table, columns in TABLES.items()
    }
    times = bench.home.rows(f"SELECT first_sent_at, last_sent_at FROM jobs WHERE no = {no}")
    return {**found, "times": times}


async def test_as_if_each_came_by_itself(bench, together, one_by_one):
    stand = []
    for record in (together, one_by_one):
        no = await bench.job(range(1, 11))
        rows = []
        for one in range(1, 11):
            rows.append(bench.row(no, one, channel="custom" if one % 3 else "template"))
            bench.clock.advance(0.25)
        await record(rows)
        stand.append({**standing(bench, no), "times": None})
        first, last = standing(bench, no)["times"][0]
        assert (first, last) == (to_ms(rows[0].at), to_ms(rows[-1].at))
        assert (await bench.books(no)).sent_by_channel == {"custom": 7, "template": 3}
        bench.clock.advance(-2.5)
    assert stand[0] == stand[1]


async def test_more_than_one_statement_takes(bench, together):
    many = range(1, 2 * MOST_ROWS + 2)
    no = await bench.job(many)
    await together([bench.row(no, one) for one in many])
    books = await bench.books(no)
    assert (books.ended, books.outcomes) == (len(many), {Outcome.SENT: len(many)})
    assert bench.outcomes(no) == dict.fromkeys(many, "sent")


async def test_openids_are_kept_as_they_are(bench, together):
    no = await bench.job([1, 2, 3])
    names = {1: "oAbc", 2: "oabc ", 3: '信\U0001f600"\\'}
    await together([dataclasses.replace(bench.row(no, one), openid=name) for one, name in names.items()])
    listed, _ = await bench.ledger.listed(no, None)
    assert {one.recipient_id: one.openid for one in listed} == names


async def test_who_has_an_outcome_keeps_it_and_the_others_are_counted(bench, together):
    no = await bench.job([1, 2, 3, 4])
    await bench.end(no, 2, outcome=Outcome.REJECTED, errcode=40003)
    await together([bench.row(no, one) for one in (1, 2, 3)])
    await together([bench.row(no, one) for one in (3, 4)])
    assert bench.outcomes(no) == {1: "sent", 2: "rejected", 3: "sent", 4: "sent"}
    books = await bench.books(no)
    assert books.outcomes == {Outcome.SENT: 3, Outcome.REJECTED: 1}
    assert books.balanced


async def test_in_a_retry_the_former_outcomes_make_way(bench, together, one_by_one):
    stand = []
    for record in (together, one_by_one):
        no = await done_job(bench, {1: Outcome.FAILED, 2: Outcome.SENT, 3: Outcome.FAILED})
        assert await retry(bench, no, 2, [Outcome.FAILED])
        assert await plan_retry(bench, no) == [1, 3]
        lease = await bench.one(no)
        await bench.mark(lease, 3)
        await record([bench.row(no, one, round_no=2) for one in (1, 3)])
        assert (await bench.settle(lease)).done
        assert await bench.ledger.finish(no, bench.clock.now()) is not None
        assert (await bench.books(no)).outcomes == {Outcome.SENT: 3}
        stand.append(standing(bench, no))
    assert stand[0] == stand[1]
    assert len(stand[0]["former_outcomes"]) == 2


async def test_whose_end_will_be_reported_is_noted(bench, together):
    no = await bench.job([1, 2, 3])
    await together([dataclasses.replace(bench.row(no, one), msgid=one * 100) for one in (1, 2)])
    await together([bench.row(no, 3)])
    noted = [(msgid, one) for _, msgid, _, one, _ in standing(bench, no)["receipts"]]
    assert noted == [(100, 1), (200, 2)]
