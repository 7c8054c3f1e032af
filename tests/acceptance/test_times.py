"""`not_before` and `not_after`, also while the daemon is down; and what a long downtime holds."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bed.arrivals import Arrivals
from bed.books import check_books
from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.ports import eventually
from bed.site import sqlite_site


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def test_a_job_begins_at_its_time_and_no_sooner(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 300)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            begins = time.time() + 2
            job = daemon.call({"content": "later", "key": "k", "not_before": _iso(begins)})
            assert (job["ok"], job["state"]) == (True, "accepted")
            assert job["waits_for"].startswith("its time, ")
            assert daemon.call({"op": "info"})["jobs"]["scheduled"] == 1
            now = daemon.call({"content": "now", "key": "k2"})["job"]
            daemon.wait_done(now)
            assert not arrivals.of("later")
            assert daemon.wait_done(job["job"])["books"]["sent"] == 300
            first = min(one.at for one in arrivals.of("later"))
            assert begins <= first < begins + 5


@pytest.mark.parametrize("op", ["pause", "none"])
def test_a_time_that_comes_while_the_daemon_is_down(tmp_path: Path, op: str) -> None:
    """It begins at the next start; but not when an operator has paused it."""
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 300)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            begins = time.time() + 1
            job = daemon.call({"content": "later", "key": "k", "not_before": begins})["job"]
            if op == "pause":
                assert daemon.control("pause", job)["state"] == "paused"
            daemon.kill()
            eventually(lambda: time.time() > begins, what="its time has come")
            daemon.start()
            if op == "pause":
                daemon.wait_done(daemon.call({"content": "now", "key": "k2"})["job"])
                assert daemon.job(job)["state"] == "paused"
                assert not arrivals.of("later")
                # Nobody was frozen yet: it is as it was before.
                assert daemon.control("resume", job)["state"] == "accepted"
            assert daemon.wait_done(job)["books"]["sent"] == 300


def test_nobody_is_asked_after_the_deadline(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.3) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 20_000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            ends = time.time() + 3
            job = daemon.call({"content": "timely", "key": "k", "not_after": ends})["job"]
            view = daemon.wait_state(job, "expired")
            assert view["reason"].startswith("past its deadline, not_after ")
            books = view["books"]
            assert books["balanced"]
            assert books["sent"] == len(arrivals.received("timely")) > 0
            assert books["sent"] + books["skipped"] == 20_000
            # A call that is on its way at the very moment arrives a little later.
            assert max(one.at for one in arrivals.of("timely")) < ends + 1
            for op in ("pause", "resume", "cancel"):
                refused = daemon.control(op, job)
                assert (refused["error"], refused["state"]) == ("wrong_state", "expired")
        check_books(daemon.ledger)


@pytest.mark.parametrize("state", ["running", "paused", "scheduled"])
def test_a_deadline_that_comes_while_the_daemon_is_down(tmp_path: Path, state: str) -> None:
    with counting_endpoint(latency_s=0.3) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 5000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            ends = time.time() + 2
            frame = {"content": "timely", "key": "k", "not_after": ends}
            if state == "scheduled":
                frame["not_before"] = ends - 0.5
            job = daemon.call(frame)["job"]
            if state != "scheduled":
                eventually(lambda: arrivals.all, what="sending has begun")
            if state == "paused":
                daemon.control("pause", job)
            daemon.kill()
            eventually(lambda: time.time() > ends, what="the deadline has passed")
            daemon.start()
            books = daemon.wait_state(job, "expired")["books"]
            assert books["balanced"]
            assert not arrivals.of("timely", since=ends + 1)
            received = arrivals.received("timely")
            assert books["sent"] <= len(received) <= books["sent"] + books["unknown"]
            assert books["sent"] + books["unknown"] + books["skipped"] == books["recipients"]
            assert books["recipients"] == (0 if state == "scheduled" else 5000)
        check_books(daemon.ledger)


def test_a_deadline_passes_while_no_token_can_be_had_and_while_planning_waits(tmp_path: Path) -> None:
    """Nobody could be asked in time: whoever is frozen is skipped, and the books say so."""
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 500, token="")
        away = (
            f'[accounts.away]\napi_base = "{endpoint.url}"\nchannels = ["custom"]\n'
            f'[accounts.away.audience]\nurl = "sqlite:///{tmp_path}/nowhere/site.db"\n'
        )
        with daemon_process(tmp_path, endpoint.url, site, more=away) as daemon:
            ends = time.time() + 2
            frame = {"content": "timely", "not_after": ends}
            job = daemon.call({**frame, "key": "1"})["job"]
            without = daemon.call({**frame, "key": "2", "account": "away"})["job"]
            eventually(lambda: "token" in daemon.job(job)["waits_for"], what="it waits for a token")
            eventually(lambda: "planned" in daemon.job(without)["waits_for"], what="for its database")
            books = daemon.wait_state(job, "expired")["books"]
            assert (books["skipped"], books["unknown"], books["in_doubt"]) == (500, 0, 0)
            books = daemon.wait_state(without, "expired")["books"]
            assert (books["recipients"], books["balanced"]) == (0, True)
            assert time.time() < ends + 5
        assert not arrivals.all
        check_books(daemon.ledger)


def test_times_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 1)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            now = time.time()
            for times, why in (
                ({"not_after": now - 1}, "has passed"),
                ({"not_before": now + 20, "not_after": now + 10}, "must come after not_before"),
                ({"not_before": "2026-01-31T08:00:00"}, "has no offset"),
                ({"not_before": "tomorrow"}, "accepted: "),
                ({"not_before": now + 400 * 86400}, "at most 366 days"),
                ({"not_after": True}, "accepted: "),
                ({"not_after": 1e300}, "out of range"),
            ):
                refused = daemon.call({"content": "x", **times})
                assert refused["error"] == "bad_frame", refused
                assert why in refused["message"]
            assert daemon.call({"op": "jobs"})["jobs"] == []


def test_a_long_downtime_holds_what_would_go_on_and_nothing_else(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.2) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 5000)
        ledger = "hold_after_down_s = 3"
        with daemon_process(tmp_path, endpoint.url, site, ledger=ledger) as daemon:
            later = daemon.call({"content": "later", "key": "1", "not_before": time.time() + 3600})["job"]
            paused = daemon.call({"content": "paused", "key": "2"})["job"]
            daemon.control("pause", paused)
            job = daemon.call({"content": "running", "key": "3"})["job"]
            eventually(lambda: arrivals.of("running"), what="sending has begun")
            daemon.kill()
            daemon.start()
            assert daemon.job(job)["state"] == "running", "a short downtime holds nothing"
            daemon.kill()
            down_at = time.time()
            # What is tested is time itself: the downtime is told by the heartbeat, every 5 s.
            eventually(lambda: time.time() > down_at + 3.5, what="it was away for long")
            daemon.start()
            held = daemon.job(job)
            assert held["state"] == "held"
            assert "away" in held["reason"]
            assert "hold_after_down_s" in held["reason"]
            assert daemon.job(later)["state"] == "accepted"
            assert daemon.job(paused)["state"] == "paused"
            fresh = daemon.call({"content": "fresh", "to": ["o1"]})["job"]
            daemon.wait_done(fresh)
            assert not arrivals.of("running", since=down_at + 0.5)
            daemon.kill()
            daemon.start()
            assert daemon.job(job)["state"] == "held"
            endpoint.latency_s = 0
            assert daemon.control("resume", job)["state"] == "running"
            books = daemon.wait_done(job)["books"]
            assert books["sent"] == 5000
            assert daemon.control("cancel", paused)["ok"]
        check_books(daemon.ledger)
