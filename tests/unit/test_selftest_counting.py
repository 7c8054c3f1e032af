"""How a selftest waits for the jobs' end, against a daemon that is played."""

from types import SimpleNamespace
from typing import Any

import pytest

from broadcastd.errors import NoDaemonError
from broadcastd.selftest import counting
from broadcastd.selftest.counting import wait_ended
from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.payer import Order


class Played:
    """A bench whose daemon answers what it is told to, each job's last answer for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.resumed = 0
        self.revived = 0
        self.payer = SimpleNamespace(
            orders=[Order("order-1", "text", "j1"), Order("order-2", "text")], ask=self._ask
        )
        self.daemon = SimpleNamespace(revive=self._revive)

    def _ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        assert frame["job"] == "j1"  # an order that was never accepted has no job to wait for
        if frame["op"] == "resume":
            self.resumed += 1
            return {"ok": True}
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _revive(self) -> None:
        self.revived += 1


def view(state: str, ended: int) -> dict[str, Any]:
    return {"ok": True, "job": "j1", "state": state, "books": {"ended": ended}}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LOOK_S", 0.001)
    monkeypatch.setattr(counting, "NO_PROGRESS_S", 0.2)


@pytest.mark.parametrize("last", ["done", "cancelled", "expired"])
def test_it_waits_until_a_job_has_ended(last: str) -> None:
    bench = Played(view("accepted", 0), NoDaemonError(), view("running", 5), view(last, 9))
    wait_ended(bench)
    assert bench.asked == 4, "neither sooner nor later"


def test_what_is_held_is_resumed_and_a_daemon_that_is_gone_is_started() -> None:
    bench = Played(view("running", 1), view("held", 1), NoDaemonError(), view("running", 1), view("done", 2))
    wait_ended(bench)
    assert (bench.resumed, bench.revived) == (1, 1)


def test_a_job_that_the_daemon_does_not_know_is_not_waited_for() -> None:
    bench = Played({"ok": False, "error": "unknown_job", "retry": False})
    wait_ended(bench)
    assert (bench.asked, bench.resumed) == (1, 0)


@pytest.mark.parametrize(
    "answers",
    [
        [view("running", 7)],
        [view("held", 7)],
        [NoDaemonError("nobody listens")],
        # Not even one that goes up and down is progress.
        [view("held", 7), view("running", 6)] * 5000,
        [view("running", 7), NoDaemonError("too slow")] * 5000,
    ],
)
def test_what_does_not_move_ends_the_wait(answers: list[Any]) -> None:
    with pytest.raises(SelftestStoppedError, match=r"order-1 do not end: nothing moves for 0\.2 s"):
        wait_ended(Played(*answers))
