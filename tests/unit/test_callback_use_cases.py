"""What becomes of a push: opt-outs in memory, the reception, the statements of the site. No I/O."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from bed.fakes import FakeClock, settle_down

from broadcastd.delivery.applier import MOST_FAILED, Applier
from broadcastd.delivery.opt_outs import REPLICA_LAG_S, OptOuts
from broadcastd.delivery.reception import Receiver, Reception
from broadcastd.errors import AudienceUnavailableError, LedgerUnavailableError
from broadcastd.pushes import NewPush, Push, PushKind, TextMessage, Viewed, WaitingPush, Word

OUT, BACK = PushKind.OPT_OUT, PushKind.OPT_IN


class FakeLedger:
    """As much of a `Ledger` as pushes need; `broken` refuses, `late` refuses and writes all the same."""

    def __init__(self) -> None:
        self.pushes: dict[str, NewPush] = {}
        self.applied: set[int] = set()
        self.batches: list[int] = []
        self.broken = self.late = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def take_pushes(self, some: list[NewPush], now: datetime) -> list[bool]:
        del now
        await self.gate.wait()
        self.batches.append(len(some))
        if self.broken:
            raise LedgerUnavailableError("the disk is full")
        new = []
        for one in some:
            new.append(one.push.dedupe_key not in self.pushes)
            self.pushes.setdefault(one.push.dedupe_key, one)
        if self.late:
            raise LedgerUnavailableError("not confirmed in time")
        return new

    async def waiting_pushes(self, account: str, after: int, limit: int) -> list[WaitingPush]:
        numbered = enumerate(self.pushes.values(), 1)
        waiting = [
            WaitingPush(no, one.kind, one.push.openid)
            for no, one in numbered
            if one.waits and one.account == account and no not in self.applied and no > after
        ]
        return waiting[:limit]

    async def note_applied(self, numbers: list[int], now: datetime) -> None:
        del now
        self.applied |= set(numbers)

    async def opted_out(self, account: str) -> set[str]:
        del account
        return {"oLONG"}


class FakeRegistry:
    """Implements `Registry`."""

    kinds = frozenset({OUT, BACK})

    def __init__(self) -> None:
        self.noted: list[tuple[PushKind, str]] = []
        self.down = False
        self.refuses: set[str] = set()
        self.tries = 0

    async def note(self, kind: PushKind, openid: str) -> None:
        self.tries += 1
        if self.down or openid in self.refuses:
            raise AudienceUnavailableError("the site's database cannot be reached")
        self.noted.append((kind, openid))


class Bench:
    """One account's use cases, running."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = FakeLedger()
        self.registry = FakeRegistry()
        self.opt_outs = OptOuts(self.clock)
        self.applier = Applier("default", self.registry, self.ledger, self.opt_outs, self.clock)
        self.heard: list[NewPush] = []
        words = {"0": Word.OPT_OUT, "1": Word.OPT_IN}
        receiver = Receiver(words, self.registry.kinds, self.opt_outs, self._hear)
        self.reception = Reception(self.ledger, {"default": receiver}, self.clock)
        self.made = 0

    def _hear(self, push: NewPush) -> None:
        self.heard.append(push)
        if push.waits:
            self.applier.wake()

    def text(self, content: str, openid: str = "oX", key: str = "") -> Push:
        self.made += 1
        return TextMessage(
            openid=openid, original_id="gh", created_s=1, dedupe_key=key or f"k{self.made}", content=content
        )

    async def say(self, content: str, openid: str = "oX", key: str = "") -> Word | None:
        return await self.reception.take("default", self.text(content, openid, key))

    @contextlib.asynccontextmanager
    async def running(self, *, applying: bool = True) -> AsyncIterator[None]:
        loops = [self.reception.run(), *([self.applier.run()] if applying else [])]
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


# -- opt-outs ----------------------------------------------------------------------------------------------


def test_who_has_opted_out_is_barred_until_the_site_knows_and_rows_are_read_after_that():
    clock = FakeClock()
    opt_outs = OptOuts(clock)
    pulled_s = clock.monotonic_s()
    assert not opt_outs.bars("oX", pulled_s)
    opt_outs.heard(OUT, "oX")
    clock.advance(10_000)
    assert opt_outs.bars("oX", clock.monotonic_s())  # however late: its database does not know yet
    opt_outs.told(OUT, "oX")
    assert opt_outs.bars("oX", pulled_s)
    assert opt_outs.bars("oX", clock.monotonic_s() + REPLICA_LAG_S - 1)
    # Who is in the audience now was put back by the site itself.
    assert not opt_outs.bars("oX", clock.monotonic_s() + REPLICA_LAG_S)
    assert not opt_outs.bars("oY", pulled_s)


def test_who_opts_in_again_is_sent_to_at_once():
    opt_outs = OptOuts(FakeClock())
    opt_outs.heard(OUT, "oX")
    opt_outs.heard(BACK, "oX")
    assert not opt_outs.bars("oX", 0.0)
    opt_outs.told(OUT, "oX")  # the former one
    assert not opt_outs.bars("oX", 0.0)


def test_a_second_opt_out_is_not_known_because_the_first_is():
    clock = FakeClock()
    opt_outs = OptOuts(clock)
    for kind in (OUT, BACK, OUT):
        opt_outs.heard(kind, "oX")
    opt_outs.told(OUT, "oX")
    opt_outs.told(BACK, "oX")
    clock.advance(10_000)
    assert opt_outs.bars("oX", clock.monotonic_s())
    opt_outs.told(OUT, "oX")
    clock.advance(10_000)
    assert not opt_outs.bars("oX", clock.monotonic_s())


def test_without_a_statement_the_ledger_alone_keeps_it():
    clock = FakeClock()
    lasting = OptOuts(clock, lasting=True)
    lasting.restore({"oA", "oB"}, [])
    lasting.heard(BACK, "oB")
    lasting.heard(OUT, "oC")
    lasting.told(OUT, "oC")
    clock.advance(10_000)
    assert [lasting.bars(one, clock.monotonic_s()) for one in ("oA", "oB", "oC")] == [True, False, True]
    told = OptOuts(clock)
    told.restore({"oA"}, [WaitingPush(1, OUT, "oB"), WaitingPush(2, OUT, "oC"), WaitingPush(3, BACK, "oC")])
    assert [told.bars(one, 0.0) for one in ("oA", "oB", "oC")] == [False, True, False]


async def test_quiet_waits_for_every_call_of_this_follower_only():
    opt_outs = OptOuts(FakeClock())
    with opt_outs.calling("oY"):
        await opt_outs.quiet("oX")
        with opt_outs.calling("oX"):
            with opt_outs.calling("oX"):
                quiet = asyncio.create_task(opt_outs.quiet("oX"))
                await settle_down()
            await settle_down()
            assert not quiet.done()
        await quiet


# -- the reception -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "word"),
    [("0", Word.OPT_OUT), (" 0\n", Word.OPT_OUT), ("０", Word.OPT_OUT), ("1", Word.OPT_IN),
     ("１", Word.OPT_IN), ("10", None), ("", None), ("00", None), ("o", None), ("2", None)],
)  # fmt: skip
async def test_words(bench, content, word):
    async with bench.running():
        assert await bench.say(content) is word


async def test_an_opt_out_is_answered_once_it_is_on_disk_and_in_force(bench):
    async with bench.running(applying=False):
        bench.ledger.gate.clear()
        said = asyncio.create_task(bench.say("0"))
        await settle_down()
        assert not said.done()
        with bench.opt_outs.calling("oX"):
            bench.ledger.gate.set()
            await settle_down()
            assert bench.opt_outs.bars("oX", bench.clock.monotonic_s())
            assert not said.done()  # a call is under way
        assert await said is Word.OPT_OUT


async def test_pushes_that_come_together_are_one_commit(bench):
    async with bench.running():
        await asyncio.gather(*(bench.say("hi", f"o{one}") for one in range(300)))
        assert len(bench.ledger.batches) <= 2
        await asyncio.gather(*(bench.say("hi", f"o{one}") for one in range(1200)))
        assert max(bench.ledger.batches) == 500
        assert sum(bench.ledger.batches) == 1500


async def test_a_repeat_changes_nothing_and_is_answered_alike(bench):
    async with bench.running(applying=False):
        assert await bench.say("0", key="m1") is Word.OPT_OUT
        assert await bench.say("1", key="m2") is Word.OPT_IN
        assert await bench.say("0", key="m1") is Word.OPT_OUT
        assert not bench.opt_outs.bars("oX", 0.0)
        assert len(bench.heard) == 2


async def test_a_ledger_that_refuses_is_no_answer(bench):
    async with bench.running(applying=False):
        bench.ledger.broken = True
        with pytest.raises(LedgerUnavailableError):
            await bench.say("0", key="m1")
        assert not bench.opt_outs.bars("oX", 0.0)
        bench.ledger.broken = False
        assert await bench.say("0", key="m1") is Word.OPT_OUT
        assert bench.opt_outs.bars("oX", 0.0)


async def test_what_came_on_disk_unnoticed_is_in_force_with_its_repeat(bench):
    async with bench.running(applying=False):
        bench.ledger.late = True
        with pytest.raises(LedgerUnavailableError):
            await bench.say("0", key="m1")
        bench.ledger.late = False
        assert await bench.say("0", key="m1") is Word.OPT_OUT
        assert bench.opt_outs.bars("oX", 0.0)
        assert await bench.say("0", key="m1") is Word.OPT_OUT
        assert len(bench.heard) == 1


async def test_other_pushes_wait_for_nothing(bench):
    async with bench.running():
        push = Viewed(openid="oX", original_id="gh", created_s=1, dedupe_key="v", url="http://x/")
        assert await bench.reception.take("default", push) is None
        assert [(one.kind, one.waits) for one in bench.heard] == [(PushKind.VIEW, False)]


# -- the site's statements ---------------------------------------------------------------------------------


async def test_statements_run_in_the_order_of_the_pushes(bench):
    async with bench.running():
        for content, openid in (("0", "oA"), ("1", "oA"), ("0", "oB"), ("0", "oA")):
            await bench.say(content, openid)
        await settle_down(100)
        assert [one for one in bench.registry.noted if one[1] == "oA"] == [
            (OUT, "oA"), (BACK, "oA"), (OUT, "oA"),
        ]  # fmt: skip
        assert len(bench.ledger.applied) == 4
        assert (bench.applier.applied, bench.applier.waiting, bench.applier.trouble) == (4, 0, "")


async def test_a_database_that_is_down_is_tried_until_it_is_back(bench):
    bench.registry.down = True
    async with bench.running():
        for one in range(10):
            await bench.say("0", f"o{one}")
        await settle_down(200)
        assert bench.registry.noted == []
        assert bench.applier.trouble == "the site's database cannot be reached"
        assert bench.applier.waiting == 10
        assert bench.registry.tries % MOST_FAILED == 0  # not ten tries a pass
        bench.registry.down = False
        await settle_down(200)
        assert len(bench.registry.noted) == 10
        assert (bench.applier.trouble, bench.applier.waiting) == ("", 0)


async def test_one_followers_trouble_is_not_the_others(bench):
    bench.registry.refuses = {"oBAD"}
    async with bench.running():
        for content, openid in (("0", "oBAD"), ("1", "oBAD"), ("0", "oA"), ("0", "oB")):
            await bench.say(content, openid)
        await settle_down(200)
        assert bench.registry.noted == [(OUT, "oA"), (OUT, "oB")]
        bench.registry.refuses = set()
        await settle_down(200)
        assert bench.registry.noted[2:] == [(OUT, "oBAD"), (BACK, "oBAD")]


async def test_a_start_goes_on_where_a_kill_left_it(bench):
    async with bench.running(applying=False):
        await bench.say("0", "oA")
        await bench.say("0", "oB")
        await bench.say("1", "oB")
    opt_outs = OptOuts(bench.clock)
    applier = Applier("default", bench.registry, bench.ledger, opt_outs, bench.clock)
    await applier.restore()
    assert [opt_outs.bars(one, 0.0) for one in ("oA", "oB")] == [True, False]
    assert applier.waiting == 3
    task = asyncio.create_task(applier.run())
    await settle_down(100)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.registry.noted == [(OUT, "oA"), (OUT, "oB"), (BACK, "oB")]
    assert applier.waiting == 0
