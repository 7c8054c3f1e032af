"""The port `Ledger`: pushes, what they say of followers, and deliveries."""
# ruff: noqa: F811 - fixtures

import dataclasses
from datetime import timedelta

import pytest
from test_ledger_contract import bench, home  # noqa: F401

from broadcastd.batch import Batch
from broadcastd.outcomes import Outcome
from broadcastd.pushes import (
    Choice,
    Clicked,
    Delivery,
    MassFinished,
    NewPush,
    OtherEvent,
    PushKind,
    SentNotice,
    SubscribeChosen,
    Subscribed,
    SubscribeSent,
    TemplateFinished,
    TextMessage,
    Unsubscribed,
    Viewed,
    WaitingPush,
)

MSGID = 3557254367693750277


class Pushes:
    """Short words for pushes."""

    def __init__(self, bench):
        self.bench = bench
        self.made = 0

    def new(self, kind, openid="oX", account="default", key=None, waits=False, as_kind=None, **about):
        self.made += 1
        base = {"openid": openid, "original_id": "gh_x", "created_s": 1, "dedupe_key": key or f"k{self.made}"}
        return NewPush(account, kind(**base, **about), as_kind or PushKind.OTHER, waits)

    async def take(self, *some):
        return list(await self.bench.ledger.take_pushes(some, self.bench.clock.now()))

    def follower(self, openid="oX"):
        """window: seconds from now and messages; gone code; whether opted out, refused, closed."""
        columns = "window_until, window_left, gone_code, opted_out_at, refused_at, closed_at"
        rows = self.bench.home.rows(f"SELECT {columns} FROM followers WHERE openid = '{openid}'")
        return tuple(rows[0]) if rows else None

    def ms(self, later=timedelta(0)):
        return round((self.bench.clock.now() + later).timestamp() * 1000)

    async def sent(self, no, *recipients, channel="template", first_msgid=MSGID):
        rows = [
            dataclasses.replace(
                self.bench.row(no, one, channel=channel, outcome=Outcome.SENT), msgid=first_msgid + one
            )
            for one in recipients
        ]
        await self.bench.ledger.record(Batch(outcomes=rows), self.bench.clock.now())

    async def finished(self, *ends, openid="oX"):
        await self.take(
            *(
                self.new(
                    TemplateFinished,
                    openid,
                    as_kind=PushKind.TEMPLATE_FINISHED,
                    msgid=msgid,
                    delivery=delivery,
                )
                for msgid, delivery in ends
            )
        )

    async def deliveries(self, no):
        return (await self.bench.books(no)).deliveries

    async def delivery_of(self, no):
        listed, _ = await self.bench.ledger.listed(no, None)
        return {one.recipient_id: one.delivery for one in listed}


@pytest.fixture
def pushes(bench):
    return Pushes(bench)


async def test_a_push_counts_once(pushes):
    one = pushes.new(TextMessage, key="message 1", content="0", as_kind=PushKind.OPT_OUT, waits=True)
    other_account = dataclasses.replace(one, account="second")
    assert await pushes.take(one, one, other_account) == [True, False, True]
    for _ in range(3):
        assert await pushes.take(one) == [False]
        await pushes.bench.reopen()
    assert len(await pushes.bench.ledger.waiting_pushes("default", 0, 9)) == 1


async def test_keys_are_told_apart_to_the_letter(pushes):
    keys = ["message a", "message A", "message a ", "message ä"]
    some = [pushes.new(OtherEvent, key=key, event="x") for key in keys]
    assert await pushes.take(*some) == [True] * 4
    assert await pushes.take(*some) == [False] * 4


async def test_nothing_that_somebody_wrote_is_kept(pushes):
    await pushes.take(pushes.new(TextMessage, content="my secret", as_kind=PushKind.MESSAGE))
    ((body,),) = pushes.bench.home.rows("SELECT body FROM pushes")
    assert "secret" not in str(body)


async def test_pushes_wait_for_the_sites_database_in_their_order(pushes):
    ledger = pushes.bench.ledger
    await pushes.take(
        pushes.new(TextMessage, "oA", content="0", as_kind=PushKind.OPT_OUT, waits=True),
        pushes.new(OtherEvent, "oB", event="x"),
        pushes.new(TextMessage, "oA", content="1", as_kind=PushKind.OPT_IN, waits=True),
        pushes.new(TextMessage, "oC", "second", content="0", as_kind=PushKind.OPT_OUT, waits=True),
    )
    await pushes.bench.reopen()
    ledger = pushes.bench.ledger
    first, second = await ledger.waiting_pushes("default", 0, 9)
    assert first == WaitingPush(first.no, PushKind.OPT_OUT, "oA")
    assert second == WaitingPush(second.no, PushKind.OPT_IN, "oA")
    assert list(await ledger.waiting_pushes("default", 0, 1)) == [first]
    assert list(await ledger.waiting_pushes("default", first.no, 9)) == [second]
    await ledger.note_applied([first.no], pushes.bench.clock.now())
    await pushes.bench.reopen()
    ledger = pushes.bench.ledger
    assert list(await ledger.waiting_pushes("default", 0, 9)) == [second]
    assert len(await ledger.waiting_pushes("second", 0, 9)) == 1


async def test_who_has_opted_out(pushes):
    out = {"content": "0", "as_kind": PushKind.OPT_OUT}
    back = {"content": "1", "as_kind": PushKind.OPT_IN}
    await pushes.take(pushes.new(TextMessage, "oA", **out), pushes.new(TextMessage, "oB", **out))
    await pushes.take(pushes.new(TextMessage, "oA", **back), pushes.new(TextMessage, "oA", "second", **out))
    assert set(await pushes.bench.ledger.opted_out("default")) == {"oB"}
    await pushes.take(pushes.new(TextMessage, "oA", **out), pushes.new(TextMessage, "oB", **back))
    assert set(await pushes.bench.ledger.opted_out("default")) == {"oA"}
    assert set(await pushes.bench.ledger.opted_out("second")) == {"oA"}
    assert pushes.follower("oB")[0] == pushes.ms(timedelta(hours=48))


HOURS_48, MINUTE = timedelta(hours=48), timedelta(minutes=1)


async def test_what_opens_the_window(pushes):
    await pushes.take(pushes.new(Viewed, url="http://x/"))
    assert pushes.follower() is None
    await pushes.take(pushes.new(Subscribed))
    assert pushes.follower()[:2] == (pushes.ms(MINUTE), 3)
    await pushes.take(pushes.new(TextMessage, content="hi"))
    assert pushes.follower()[:2] == (pushes.ms(HOURS_48), 5)
    # A click neither shortens it nor adds to it.
    await pushes.take(click(pushes))
    assert pushes.follower()[:2] == (pushes.ms(HOURS_48), 5)
    pushes.bench.clock.advance(HOURS_48.total_seconds() + 1)
    await pushes.take(click(pushes))
    assert pushes.follower()[:2] == (pushes.ms(MINUTE), 3)


def click(pushes):
    pushes.made += 1
    base = {"openid": "oX", "original_id": "gh_x", "created_s": 1, "dedupe_key": f"k{pushes.made}"}
    return NewPush("default", Clicked(key="M1", **base), PushKind.CLICK)


async def test_who_unsubscribes_is_gone_until_something_says_otherwise(pushes):
    await pushes.take(pushes.new(TextMessage, content="hi"), pushes.new(Unsubscribed))
    assert pushes.follower()[:3] == (None, None, 43004)
    await pushes.take(pushes.new(Subscribed))
    assert pushes.follower()[:3] == (pushes.ms(MINUTE), 3, 0)


async def test_a_consent_ends_a_refusal(pushes):
    await pushes.take(pushes.new(SubscribeChosen, choices=(Choice("T1", accepted=False),)))
    assert pushes.follower() is None
    await pushes.take(pushes.new(SubscribeChosen, choices=(Choice("T1", accepted=True),)))
    assert pushes.follower() == (None, None, 0, None, None, None)


@pytest.mark.parametrize("event_first", [False, True])
async def test_a_delivery_is_complete_once_both_halves_are_there(bench, pushes, event_first):
    no = await bench.job([1, 2, 3])
    ends = [(MSGID + 1, Delivery.DELIVERED), (MSGID + 2, Delivery.BLOCKED)]
    if event_first:
        await pushes.finished(*ends)
        assert await pushes.deliveries(no) == {}
        await bench.reopen()
        await pushes.sent(no, 1, 2, 3)
    else:
        await pushes.sent(no, 1, 2, 3)
        assert await pushes.deliveries(no) == {}
        await bench.reopen()
        await pushes.finished(*ends)
    assert await pushes.deliveries(no) == {"template": {"delivered": 1, "blocked": 1}}
    assert await pushes.delivery_of(no) == {1: "delivered", 2: "blocked", 3: ""}
    await pushes.finished((MSGID + 3, Delivery.DELIVERED))
    assert await pushes.deliveries(no) == {"template": {"delivered": 2, "blocked": 1}}


async def test_the_first_end_of_a_message_stays(bench, pushes):
    no = await bench.job([1])
    await pushes.sent(no, 1)
    for end in (Delivery.DELIVERED, Delivery.FAILED, Delivery.DELIVERED):
        await pushes.finished((MSGID + 1, end))
    await pushes.finished((MSGID + 1, Delivery.FAILED), (MSGID + 1, Delivery.FAILED))
    assert await pushes.deliveries(no) == {"template": {"delivered": 1}}
    assert bench.home.rows("SELECT count(*) FROM pushes") == [(0,)]  # the receipt is its own record


@pytest.mark.parametrize("event_first", [False, True])
async def test_an_event_that_does_not_say_which_message(bench, pushes, event_first):
    """MsgID 0: it is the follower's latest on this channel that has no end."""
    no = await bench.job([1, 2])
    event = pushes.new(TemplateFinished, "o1", key="e", msgid=0, delivery=Delivery.DELIVERED)
    if event_first:
        await pushes.take(event)
    await pushes.sent(no, 1, 2)
    await pushes.take(event)
    await pushes.take(event)
    assert await pushes.deliveries(no) == {"template": {"delivered": 1}}
    assert await pushes.delivery_of(no) == {1: "delivered", 2: ""}
    assert bench.home.rows("SELECT count(*) FROM receipts WHERE msgid < 0") == [(0,)]


async def test_of_two_messages_the_latest_is_meant(bench, pushes):
    first, second = await bench.job([1]), await bench.job([1])
    await pushes.sent(first, 1)
    bench.clock.advance(1)
    await pushes.sent(second, 1, first_msgid=10)
    await pushes.take(pushes.new(TemplateFinished, "o1", msgid=0, delivery=Delivery.FAILED))
    assert await pushes.deliveries(second) == {"template": {"failed": 1}}
    assert await pushes.deliveries(first) == {}
    await pushes.take(pushes.new(TemplateFinished, "o1", msgid=0, delivery=Delivery.DELIVERED))
    assert await pushes.deliveries(first) == {"template": {"delivered": 1}}


async def test_notices_and_templates_are_counted_apart(bench, pushes):
    no = await bench.job([1, 2])
    await pushes.sent(no, 1)
    await pushes.sent(no, 2, channel="subscribe")
    notices = (SentNotice("T", MSGID + 2, Delivery.DELIVERED), SentNotice("T", MSGID + 9, Delivery.FAILED))
    await pushes.take(pushes.new(SubscribeSent, notices=notices))
    await pushes.finished((MSGID + 1, Delivery.FAILED))
    assert await pushes.deliveries(no) == {"subscribe": {"delivered": 1}, "template": {"failed": 1}}


async def test_the_same_number_in_two_accounts(bench, pushes):
    mine, theirs = await bench.job([1]), await bench.job([1], account="second")
    await pushes.sent(mine, 1)
    await pushes.sent(theirs, 1)
    await pushes.finished((MSGID + 1, Delivery.DELIVERED))
    assert await pushes.deliveries(mine) == {"template": {"delivered": 1}}
    assert await pushes.deliveries(theirs) == {}


async def test_many_at_once(bench, pushes):
    ids = list(range(1, 1301))
    no = await bench.job(ids)
    await pushes.finished(*((MSGID + one, Delivery.DELIVERED) for one in ids[:700]))
    await pushes.sent(no, *ids)
    await pushes.finished(*((MSGID + one, Delivery.DELIVERED) for one in ids[400:]))
    assert await pushes.deliveries(no) == {"template": {"delivered": 1300}}


async def test_a_mass_messages_result_is_kept(bench, pushes):
    no = await bench.job([1])
    about = {"msg_id": 7, "status": "send success", "total": 4, "filtered": 3, "sent": 2, "errors": 1}
    push = pushes.new(MassFinished, as_kind=PushKind.MASS_FINISHED, **about)
    assert await pushes.take(push) == [True]
    ((kind, body),) = bench.home.rows("SELECT kind, body FROM pushes")
    assert kind == "mass_finished"
    assert '"msg_id": 7' in str(body)
    assert (await bench.look(no)).books.deliveries == {}


async def test_pushes_are_forgotten_and_deliveries_with_their_job(bench, pushes):
    keep = timedelta(hours=1)
    no = await bench.job([1])
    lease = await bench.one(no)
    await bench.mark(lease, 1)
    await pushes.sent(no, 1)
    await bench.settle(lease)
    await bench.ledger.finish(no, bench.clock.now())
    await pushes.finished((MSGID + 1, Delivery.DELIVERED), (5, Delivery.DELIVERED))
    await pushes.take(pushes.new(OtherEvent, event="x"))
    await pushes.take(pushes.new(TextMessage, content="0", as_kind=PushKind.OPT_OUT, waits=True))

    async def purge():
        while await bench.ledger.purge(bench.clock.now(), keep, 1):
            pass
        return [bench.home.rows(f"SELECT count(*) FROM {name}")[0][0] for name in ("pushes", "receipts")]

    bench.clock.advance(2 * 3600)
    assert await purge() == [2, 1]  # by the pushes a repeat is known: a day at the least
    bench.clock.advance(86400)
    assert await purge() == [1, 0]  # what waits for the site's database stays
    assert await pushes.deliveries(no) == {"template": {"delivered": 1}}
    bench.clock.advance(366 * 86400)
    await purge()
    assert bench.home.rows("SELECT count(*) FROM delivery_tallies") == [(0,)]
