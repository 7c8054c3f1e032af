"""The canary: one look at a time, however many ask; each part says for itself what is wrong."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest
from bed.fakes import FakeClock, ScriptedChannel, open_job, settle_down

from broadcastd.delivery import canary as module
from broadcastd.delivery.canary import Canary
from broadcastd.errors import AudienceUnavailableError, LedgerSilentError
from broadcastd.wire.views import canary_view


class Followers:
    """Stands for `Audience`: its first page only, and only one row of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.wrong: Exception | None = None
        self.hangs = asyncio.Event()
        self.hangs.set()

    async def page(self, now: datetime, page_no: int, page_size: int) -> Sequence[int]:
        del now
        assert (page_no, page_size) == (0, 1)
        self.asked += 1
        await self.hangs.wait()
        if self.wrong is not None:
            raise self.wrong
        return [1]


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.account = open_job(self.clock, ScriptedChannel("custom")).account
        self.followers = self.account.audience = Followers()  # type: ignore[assignment]
        self.commits = 0
        self.full = ""
        self.silent = False
        self.canary = Canary(self._commit, {"default": self.account}, lambda: self.full, self.clock)

    async def _commit(self) -> None:
        self.commits += 1
        if self.silent:
            raise LedgerSilentError


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_all_is_well(bench: Bench) -> None:
    sung = await bench.canary.look()
    assert sung.healthy
    assert (sung.intake, sung.plan, sung.token) == ("ok", {"default": "ok"}, {"default": "ok"})
    assert bench.commits == 1


async def test_each_part_says_what_is_wrong(bench: Bench) -> None:
    bench.full = "the disk has 1 MB left"
    bench.followers.wrong = AudienceUnavailableError("gone away")
    bench.account.tokens.unavailable = "no token"  # type: ignore[attr-defined]
    sung = await bench.canary.look()
    assert not sung.healthy
    assert sung.intake == "the disk has 1 MB left"
    assert sung.plan == {"default": "gone away"}
    assert sung.token == {"default": "no token"}


async def test_a_ledger_that_says_nothing_is_told(bench: Bench) -> None:
    bench.silent = True
    assert "does not answer" in (await bench.canary.look()).intake


async def test_a_bug_in_one_part_does_not_hide_the_others(bench: Bench) -> None:
    bench.followers.wrong = ZeroDivisionError()
    sung = await bench.canary.look()
    assert sung.plan == {"default": "an internal error: ZeroDivisionError"}
    assert sung.intake == "ok"


async def test_however_many_ask_one_look_is_under_way(bench: Bench) -> None:
    bench.followers.hangs.clear()
    asking = [asyncio.ensure_future(bench.canary.look()) for _ in range(100)]
    await settle_down()
    assert bench.followers.asked == 1
    asking[0].cancel()  # who hangs up does not end it for the others
    bench.followers.hangs.set()
    sung = await asyncio.gather(*asking[1:])
    assert bench.followers.asked == 1
    assert len({id(one) for one in sung}) == 1
    await bench.canary.look()  # a moment later
    assert bench.followers.asked == 1
    bench.clock.advance(3)
    await bench.canary.look()
    assert bench.followers.asked == 2


async def test_what_hangs_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 0)
    bench.followers.hangs.clear()
    sung = await bench.canary.look()
    assert sung.plan == {"default": "no answer within 0 s"}


async def test_a_look_under_way_ends_with_the_daemon(bench: Bench) -> None:
    bench.followers.hangs.clear()
    asking = asyncio.ensure_future(bench.canary.look())
    await settle_down()
    await bench.canary.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_caller_sees_its_own_accounts_only(bench: Bench) -> None:
    bench.followers.wrong = AudienceUnavailableError("gone away")
    sung = await bench.canary.look()
    view = canary_view(sung, lambda name: name == "other", bench.clock.monotonic_s())
    assert view["accounts"] == {}
    assert view["healthy"]
