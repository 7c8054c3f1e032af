"""The port `Ledger`: what is known of followers, learnt in the same commits as outcomes, and forgotten."""
# ruff: noqa: F811 - fixtures

from datetime import timedelta

import pytest
from test_ledger_contract import bench, home  # noqa: F401

from broadcastd.batch import Batch, Learned
from broadcastd.errcodes import Note
from broadcastd.model import NOTHING_KNOWN, Known
from broadcastd.outcomes import Outcome
from broadcastd.pushes import NewPush, PushKind, TextMessage

ANNA = "o-Anna_0123456789abcdefghijk"
ANNa = "o-ANNA_0123456789abcdefghijk"
KEEP = timedelta(days=30)


def lesson(bench, note, errcode=0, openid=ANNA, account="default"):
    return Learned(account, openid, note, errcode, bench.clock.now())


async def learn(bench, *learned, **also):
    await bench.ledger.record(Batch(learned=list(learned), **also), bench.clock.now())


async def known(bench, openid=ANNA, account="default"):
    return (await bench.ledger.known(account, [openid])).get(openid, NOTHING_KNOWN)


def heard(bench, openid, **columns):
    """A row as the callback writes it: from outside, for no method here does."""
    names = ", ".join(["account", "openid", *columns])
    values = ", ".join(repr(one) for one in ["default", openid, *columns.values()])
    bench.home.run(f"INSERT INTO followers ({names}) VALUES ({values})")


def ms(bench, **later):
    return round((bench.clock.now() + timedelta(**later)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("note", "errcode", "field"),
    [
        (Note.CLOSED, 45015, "closed_at"),
        (Note.CLOSED, 45047, "closed_at"),
        (Note.NO_CONSENT, 43101, "refused_at"),
    ],
)
async def test_a_refusal_is_known_after_a_kill_until_a_message_is_accepted(bench, note, errcode, field):
    assert await bench.ledger.known("default", [ANNA]) == {}
    await learn(bench, lesson(bench, note, errcode))
    first = bench.clock.now()
    await bench.reopen()
    assert await known(bench) == Known(**{field: first})
    bench.clock.advance(60)
    await learn(bench, lesson(bench, note, errcode))
    assert getattr(await known(bench), field) == bench.clock.now()
    await learn(bench, lesson(bench, note))
    assert await known(bench) == NOTHING_KNOWN


@pytest.mark.parametrize("errcode", [43004, 50005, 48002])
async def test_who_is_gone_is_known_with_the_errcode(bench, errcode):
    await learn(bench, lesson(bench, Note.GONE, 43004))
    bench.clock.advance(1)
    await learn(bench, lesson(bench, Note.GONE, errcode))
    assert await known(bench) == Known(gone_code=errcode, gone_at=bench.clock.now())
    await learn(bench, lesson(bench, Note.GONE))
    assert await known(bench) == NOTHING_KNOWN


async def test_each_refusal_leaves_alone_what_else_is_known(bench):
    now = bench.clock.now()
    heard(bench, ANNA, opted_out_at=ms(bench))
    for note, errcode in ((Note.CLOSED, 45015), (Note.GONE, 43004), (Note.NO_CONSENT, 43101)):
        await learn(bench, lesson(bench, note, errcode))
    assert await known(bench) == Known(None, None, now, 43004, now, now)
    await learn(bench, lesson(bench, Note.GONE))
    assert await known(bench) == Known(None, None, now, 0, None, now)
    await learn(bench, lesson(bench, Note.CLOSED), lesson(bench, Note.NO_CONSENT))
    assert await known(bench) == NOTHING_KNOWN
    assert bench.home.rows("SELECT openid, opted_out_at FROM followers") == [(ANNA, ms(bench))]


async def test_an_accepted_message_writes_nothing_of_whom_nothing_is_known(bench):
    await learn(bench, lesson(bench, Note.CLOSED), lesson(bench, Note.GONE), lesson(bench, Note.NO_CONSENT))
    assert bench.home.rows("SELECT count(*) FROM followers") == [(0,)]


async def test_an_open_window_takes_one_message_fewer_after_each_and_is_closed_by_a_refusal(bench):
    until = bench.clock.now() + timedelta(hours=48)
    heard(bench, ANNA, window_until=ms(bench, hours=48), window_left=3)
    assert await known(bench) == Known(window_until=until, window_left=3)
    await learn(bench, lesson(bench, Note.CLOSED))
    assert await known(bench) == Known(window_until=until, window_left=2)
    # Two jobs at the same time, in one commit.
    await learn(bench, lesson(bench, Note.CLOSED), lesson(bench, Note.CLOSED))
    assert await known(bench) == Known(window_until=until, window_left=0)
    # It took one that it should not have had room for: the count was wrong.
    await learn(bench, lesson(bench, Note.CLOSED))
    assert await known(bench) == NOTHING_KNOWN
    heard(bench, ANNa, window_until=ms(bench, hours=48), window_left=3)
    await learn(bench, lesson(bench, Note.CLOSED, 45047, ANNa))
    assert await known(bench, ANNa) == Known(closed_at=bench.clock.now())


async def test_a_window_that_had_ended_and_took_a_message_is_not_known(bench):
    heard(bench, ANNA, window_until=ms(bench, seconds=-1), window_left=3)
    await learn(bench, lesson(bench, Note.CLOSED))
    assert await known(bench) == NOTHING_KNOWN


@pytest.mark.parametrize("last", [45015, 0])
async def test_of_what_one_commit_says_of_a_person_the_later_counts(bench, last):
    first = 0 if last else 45015
    await learn(bench, lesson(bench, Note.CLOSED, 45015, "o-other"))
    await learn(bench, *[lesson(bench, Note.CLOSED, one) for one in (last, first, last)])
    assert ((await known(bench)).closed_at is not None) is bool(last)


async def test_openids_and_accounts_are_kept_apart_to_the_letter(bench):
    await learn(bench, lesson(bench, Note.CLOSED, 45015), lesson(bench, Note.GONE, 43004, ANNa))
    await learn(bench, lesson(bench, Note.NO_CONSENT, 43101, account="second"))
    found = await bench.ledger.known("default", [ANNA, ANNa, "o-nobody", "o'; DROP TABLE followers; --%s?"])
    assert set(found) == {ANNA, ANNa}
    assert found[ANNA].gone_at is None
    assert found[ANNa].closed_at is None
    assert await known(bench, ANNA, "second") == Known(refused_at=bench.clock.now())
    await learn(bench, lesson(bench, Note.CLOSED, account="second"))
    assert (await known(bench)).closed_at is not None
    assert await bench.ledger.known("default", []) == {}


async def test_thousands_in_one_commit(bench):
    names = [f"o{number:027}" for number in range(2500)]
    await learn(bench, *[lesson(bench, Note.CLOSED, 45015, one) for one in names])
    found = {}
    for at in range(0, len(names), 500):
        found |= await bench.ledger.known("default", names[at : at + 500])
    assert len(found) == 2500
    await learn(bench, *[lesson(bench, Note.CLOSED, 0, one) for one in names[1:]])
    assert (await bench.ledger.known("default", names[:2])).keys() == set(names[:2])
    assert bench.home.rows("SELECT count(*) FROM followers WHERE closed_at IS NOT NULL") == [(1,)]


async def test_calls_that_were_saved_are_counted_with_the_outcomes(bench):
    no, other = await bench.job([1, 2, 3]), await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 3)
    await learn(bench, saved={no: 2}, outcomes=[bench.row(no, 1), bench.row(no, 2)])
    await learn(bench, saved={no: 1, other: 1})
    await bench.reopen()
    assert [(await bench.look(one)).calls_saved for one in (no, other)] == [3, 1]
    assert (await bench.books(no)).outcomes == {Outcome.SENT: 2}


async def test_what_a_push_says_is_known_and_a_message_that_is_sent_counts_down(bench):
    now = bench.clock.now()
    await learn(bench, lesson(bench, Note.CLOSED, 45015), lesson(bench, Note.GONE, 43004))
    push = TextMessage(openid=ANNA, original_id="gh_x", created_s=1, dedupe_key="1", content="hi")
    await bench.ledger.take_pushes([NewPush("default", push, PushKind.MESSAGE, False)], now)
    assert await known(bench) == Known(window_until=now + timedelta(hours=48), window_left=5)
    await learn(bench, lesson(bench, Note.CLOSED))
    assert (await known(bench)).window_left == 4


# -- forgetting --------------------------------------------------------------------------------------------


async def forget_all(bench, limit):
    gone, after, looks = 0, None, 0
    while True:
        some, after = await bench.ledger.forget_followers(bench.clock.now(), KEEP, after, limit)
        gone, looks = gone + some, looks + 1
        if after is None:
            return gone, looks


async def test_who_was_not_heard_of_for_long_is_forgotten_but_for_those_who_opted_out(bench):
    heard(bench, "o-opted-out", opted_out_at=ms(bench))
    heard(bench, "o-window", window_until=ms(bench, days=2), window_left=5)
    heard(bench, "o-empty")
    for note, errcode, openid in (
        (Note.CLOSED, 45015, "o-closed"), (Note.GONE, 43004, "o-gone"), (Note.NO_CONSENT, 43101, "o-no"),
    ):  # fmt: skip
        await learn(bench, lesson(bench, note, errcode, openid))
    assert await forget_all(bench, 100) == (1, 1)
    bench.clock.advance(20 * 86400)
    await learn(bench, lesson(bench, Note.GONE, 43004, "o-closed"))
    bench.clock.advance(11 * 86400)
    assert await forget_all(bench, 100) == (2, 1)
    left = bench.home.rows("SELECT openid FROM followers ORDER BY openid")
    assert left == [("o-closed",), ("o-opted-out",), ("o-window",)]
    bench.clock.advance(365 * 86400)
    assert await forget_all(bench, 100) == (2, 1)
    assert bench.home.rows("SELECT openid FROM followers") == [("o-opted-out",)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20])
async def test_each_is_looked_at_once_however_few_at_a_time(bench, limit):
    for account in ("default", "second"):
        for at in range(5):
            await learn(bench, lesson(bench, Note.CLOSED, 45015, f"o{at}", account))
    await learn(bench, lesson(bench, Note.CLOSED, 45015, "o9", "third"))
    bench.clock.advance(31 * 86400)
    await learn(bench, *[lesson(bench, Note.CLOSED, 45015, f"o{at}", "second") for at in (0, 3)])
    gone, looks = await forget_all(bench, limit)
    assert gone == 9
    assert looks == 11 // limit + 1
    left = bench.home.rows("SELECT account, openid FROM followers ORDER BY openid")
    assert left == [("second", "o0"), ("second", "o3")]
