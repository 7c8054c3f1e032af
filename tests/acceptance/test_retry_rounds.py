"""Retry: a new round for those that ended so, with the history kept and the same `client_msg_id`."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bed.arrivals import NO_ANSWER, Arrivals
from bed.books import check_books, rows
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site

FOLLOWERS = 1000
REJECTED = b'{"errcode":43004,"errmsg":"require subscribe rid: 1-2-3"}'
UNHEARD_OF = b'{"errcode":99999,"errmsg":"nobody knows rid: 1-2-3"}'
BAD = {1: REJECTED, 2: NO_ANSWER, 3: UNHEARD_OF}
"""What those whose number ends so are answered in the first round."""
ENDINGS = {1: "rejected", 2: "unknown", 3: "failed"}


def _ending_so(digit: int) -> set[int]:
    return {number for number in range(1, FOLLOWERS + 1) if number % 10 == digit}


def _first_round(path: str, body: dict[str, Any]) -> bytes:
    return BAD.get(int(body["touser"][1:]) % 10, OK)


@dataclass
class Round1:
    """A job that is done, and whose recipients ended in four ways."""

    daemon: DaemonProcess
    endpoint: CountingEndpoint
    arrivals: Arrivals
    job: str

    def asked_since(self, moment: float) -> set[int]:
        """Who was asked since then; fails when anybody was twice."""
        calls = [int(one.openid[1:]) for one in self.arrivals.of("retried", since=moment)]
        assert len(calls) == len(set(calls))
        return set(calls)

    def rounds_of(self, **filters: Any) -> dict[int, tuple[str, int]]:
        """Recipient to outcome and round."""
        return {one["id"]: (one["outcome"], one["round"]) for one in self.daemon.who(self.job, **filters)}


@contextmanager
def _first_round_done(folder: Path) -> Iterator[Round1]:
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint, _first_round)
        site = sqlite_site(folder / "site.db", FOLLOWERS)
        with daemon_process(
            folder, endpoint.url, site, channels=["template"], ledger='on_unknown = "leave"'
        ) as daemon:
            job = daemon.call({"content": "retried", "key": "k"})["job"]
            books = daemon.wait_done(job)["books"]
            assert [books[ENDINGS[digit]] for digit in (1, 2, 3)] == [100, 100, 100]
            assert (books["sent"], books["in_doubt"]) == (700, 0)
            arrivals.verdict = lambda path, body: OK
            yield Round1(daemon, endpoint, arrivals, job)
        check_books(daemon.ledger)


def test_only_those_that_ended_so_are_asked_again(tmp_path: Path) -> None:
    with _first_round_done(tmp_path) as first:
        daemon, job = first.daemon, first.job
        for no, digit in enumerate((1, 3, 2), 2):
            since = time.time()
            view = daemon.control("retry", job, only=ENDINGS[digit])
            assert view["state"] == "running"
            assert (view["round"]["no"], view["round"]["only"]) == (no, [ENDINGS[digit]])
            view = daemon.wait_done(job)
            assert first.asked_since(since) == _ending_so(digit)
            assert (view["round"]["recipients"], view["round"]["ended"]) == (100, 100)
            # Whoever may have got it already may now have it twice: counted when the round is frozen, once.
            assert view["books"]["in_doubt"] == (100 if ENDINGS[digit] == "unknown" else 0)
            assert first.rounds_of()[digit] == ("sent", no)
        books = view["books"]
        assert (books["sent"], books["ended"], books["balanced"]) == (FOLLOWERS, FOLLOWERS, True)
        assert first.rounds_of()[4] == ("sent", 1)
        former = rows(
            daemon.ledger,
            "SELECT outcome, round, count(*) FROM former_outcomes GROUP BY 1, 2 ORDER BY 1",
        )
        assert former == [("failed", 1, 100), ("rejected", 1, 100), ("unknown", 1, 100)]
        names: dict[str, set[str | None]] = {}
        for one in first.arrivals.of("retried"):
            names.setdefault(one.openid, set()).add(one.message_id)
        assert all(len(ids) == 1 for ids in names.values())
        nobody = daemon.control("retry", job, only=["failed", "unknown"])
        assert (nobody["error"], nobody["state"]) == ("wrong_state", "done")


def test_a_repeated_retry_begins_one_round(tmp_path: Path) -> None:
    with _first_round_done(tmp_path) as first, ThreadPoolExecutor(8) as threads:
        since = time.time()
        frame = {"op": "retry", "job": first.job, "only": ["rejected", "failed"], "round": 2}
        replies = list(threads.map(first.daemon.call, [frame] * 8))
        assert all(reply["ok"] and reply["round"]["no"] == 2 for reply in replies)
        first.daemon.wait_done(first.job)
        assert first.asked_since(since) == _ending_so(1) | _ending_so(3)
        repeated = first.daemon.call(frame)
        assert (repeated["ok"], repeated["state"], repeated["round"]["no"]) == (True, "done", 2)
        for wrong in (4, 1000):
            refused = first.daemon.call({**frame, "only": "unknown", "round": wrong})
            assert refused["error"] == "wrong_state"
        assert first.daemon.job(first.job)["round"]["no"] == 2


def test_a_round_that_is_paused_killed_and_cancelled_keeps_former_outcomes(tmp_path: Path) -> None:
    with _first_round_done(tmp_path) as first:
        daemon, job = first.daemon, first.job
        first.endpoint.latency_s = 0.3
        since = time.time()
        daemon.control("retry", job, only=["rejected", "failed"])
        refused = daemon.control("retry", job, only="unknown")
        assert (refused["error"], refused["state"]) == ("wrong_state", "running")
        eventually(lambda: first.asked_since(since), what="the second round has begun")
        assert daemon.control("pause", job)["state"] == "paused"
        # From here on nobody is in doubt: a kill changes nothing.
        eventually(lambda: daemon.call({"op": "info"})["tasks"]["busy"] == 0, what="no task works on it")
        daemon.kill()
        daemon.start()
        assert daemon.job(job)["state"] == "paused"
        assert daemon.control("retry", job, only="unknown")["error"] == "wrong_state"
        daemon.control("cancel", job)
        view = daemon.wait_state(job, "cancelled")
        asked = first.asked_since(since)
        after = first.rounds_of()
        for digit in (1, 3):
            for number in _ending_so(digit):
                if number not in asked:
                    assert after[number] == (ENDINGS[digit], 1)
                else:
                    assert after[number] == ("sent", 2)
        assert view["books"]["balanced"]
        assert view["books"]["skipped"] == 0
        assert view["round"]["ended"] == len(asked)
        # The next round is for those that still stand so.
        left = _ending_so(1) - asked
        if left:
            since = time.time()
            first.endpoint.latency_s = 0
            assert daemon.control("retry", job, only="rejected")["round"]["no"] == 3
            daemon.wait_done(job)
            assert first.asked_since(since) == left


def test_a_retry_of_a_job_past_its_deadline_wants_a_new_one(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.3) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 2000)
        with daemon_process(tmp_path, endpoint.url, site, pool="tasks = 4") as daemon:
            job = daemon.call({"content": "late", "not_after": time.time() + 1})["job"]
            view = daemon.wait_state(job, "expired")
            assert "past its deadline" in view["reason"]
            refused = daemon.control("retry", job, only="skipped")
            assert refused["error"] == "wrong_state"
            assert "not_after" in refused["message"]
            assert daemon.control("retry", job, only="skipped", not_after=time.time() - 1)["ok"] is False
            endpoint.latency_s = 0
            assert daemon.control("retry", job, only="skipped", not_after=time.time() + 600)["ok"]
            assert daemon.wait_done(job)["books"]["sent"] == 2000
        assert set(arrivals.received("late")) == {openid(number) for number in range(1, 2001)}
        check_books(daemon.ledger)
