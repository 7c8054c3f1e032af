"""The watchdog is fed while there is progress, and only then. No socket: what would be said is noted."""

import asyncio

from bed.fakes import FakeClock

from broadcastd.notify import Notifier
from broadcastd.watchdog import Watchdog


class Noting(Notifier):
    def __init__(self, watchdog_s: float | None = 30.0) -> None:
        super().__init__("", watchdog_s)
        self.said: list[str] = []

    def _tell(self, *lines: str) -> None:
        self.said += lines


class ScriptEndedError(Exception):
    """The script of this test is at its end."""


class Clock(FakeClock):
    """Lets the watchdog look so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._left = looks

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(delay_s)
        self._left -= 1
        if not self._left:
            raise ScriptEndedError


def _run(watchdog: Watchdog) -> None:
    try:
        asyncio.run(watchdog.run())
    except ScriptEndedError:
        return


def test_it_is_fed_three_times_a_span() -> None:
    clock, notifier = Clock(3), Noting()
    _run(Watchdog(notifier, lambda: "", clock))
    assert notifier.said == ["WATCHDOG=1"] * 3
    assert clock.slept == [10.0] * 3


def test_without_progress_it_is_not_fed_and_says_why_once() -> None:
    clock, notifier = Clock(5), Noting()
    reasons = iter(["", "the ledger hangs", "the ledger hangs", "task 3 hangs", ""])
    _run(Watchdog(notifier, lambda: next(reasons), clock))
    assert notifier.said == [
        "WATCHDOG=1", "STATUS=stuck: the ledger hangs", "STATUS=stuck: task 3 hangs", "WATCHDOG=1",
    ]  # fmt: skip


def test_nobody_watches() -> None:
    notifier = Noting(None)
    asyncio.run(Watchdog(notifier, lambda: "", FakeClock()).run())
    assert notifier.said == []


def test_the_environment_is_taken_once() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1500000", "HOME": "/"}
    assert Notifier.taken_from(environment).watchdog_s == 1.5
    assert environment == {"HOME": "/"}
    assert Notifier.taken_from({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.taken_from({"WATCHDOG_USEC": "0"}).watchdog_s is None
    assert Notifier.taken_from({}).watchdog_s is None
