"""Pause, resume, cancel, drain: durable, repeatable, and nobody is asked later than 1 s after the answer."""

import json
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from bed.arrivals import Arrivals, repeats
from bed.books import check_books
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import TOKEN, sqlite_site
from bed.wire import RawClient

from broadcastd.wire import dial

OUTSIDE = b'{"errcode":45015,"errmsg":"response out of time limit rid: 1-2-3"}'
SLOWLY = (
    'query = "SELECT id, openid FROM tp_receiver WHERE receive_status = 1 AND (SELECT count(*) FROM'
    " (WITH RECURSIVE busy(x) AS (SELECT tp_receiver.id UNION ALL SELECT x + 1 FROM busy LIMIT 400)"
    ' SELECT x FROM busy)) > 0"'
)


def _after_other_work(daemon: DaemonProcess, tag: str = "other") -> None:
    """Return when another job has gone its whole way: whatever could be dealt out has been."""
    job = daemon.call({"content": tag, "to": ["o-somebody"]})["job"]
    daemon.wait_done(job)


def test_a_pause_is_obeyed_within_a_second_and_over_kills(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.05) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 6000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "pausing", "key": "k"})["job"]
            eventually(lambda: len(arrivals.all) > 500, what="sending has begun")
            paused = daemon.control("pause", job)
            answered_at = time.time()
            assert (paused["ok"], paused["state"]) == (True, "paused")
            assert paused["reason"] == "paused by an operator"
            assert daemon.control("pause", job)["state"] == "paused"
            for _ in range(2):
                daemon.kill()
                daemon.start()
                assert daemon.job(job)["state"] == "paused"
                _after_other_work(daemon)
            late = arrivals.of("pausing", since=answered_at + 1)
            assert not late
            asked = len(arrivals.of("pausing"))
            assert asked < 6000
            for _ in range(2):
                resumed = daemon.control("resume", job)
                assert (resumed["ok"], resumed["state"]) == (True, "running")
            books = daemon.wait_done(job)["books"]
            assert books["sent"] == 6000
            assert repeats(arrivals.received("pausing")) <= books["in_doubt"]
            for op in ("pause", "resume", "cancel"):
                refused = daemon.control(op, job)
                assert (refused["error"], refused["retry"]) == ("wrong_state", False)
                assert (refused["job"], refused["state"]) == (job, "done")
                assert refused["message"] == f"job {job} is done: there is nothing to {op}"
        check_books(daemon.ledger)


def test_no_fallback_follows_a_pause_when_the_api_hangs(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=3) as endpoint:
        arrivals = Arrivals(endpoint, lambda path, body: OUTSIDE if "custom" in path else OK)
        site = sqlite_site(tmp_path / "site.db", 3000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "hanging", "key": "k"})["job"]
            eventually(lambda: len(arrivals.all) > 100, what="many wait for an answer")
            assert daemon.control("pause", job)["state"] == "paused"
            paused_at = time.time()
            eventually(lambda: daemon.call({"op": "info"})["in_flight"] == 0, what="all are answered")
            eventually(lambda: daemon.call({"op": "info"})["tasks"]["busy"] == 0, what="no task works on it")
            assert not arrivals.of("hanging", since=paused_at + 1)
            view = daemon.job(job)
            assert view["state"] == "paused"
            assert view["books"]["in_doubt"] == 0
            endpoint.latency_s = 0
            daemon.control("resume", job)
            books = daemon.wait_done(job)["books"]
            assert books["by_channel"] == {"template": 3000}
            assert books["in_doubt"] == 0
        # Who was answered "outside" before the pause goes on where they were: on the next channel.
        assert len(arrivals.of("hanging")) == 6000


def test_a_pause_while_connections_are_being_made(tmp_path: Path) -> None:
    """A host that is slow to accept: who waits for a connection when the job is paused is not asked."""
    endpoint = CountingEndpoint()
    arrivals = Arrivals(endpoint)
    try:
        with ExitStack() as stack:
            accepting = ExitStack()
            accepting.enter_context(endpoint.slow_to_accept())
            site = sqlite_site(tmp_path / "site.db", 3000)
            daemon = stack.enter_context(daemon_process(tmp_path, endpoint.url, site))
            job = daemon.call({"content": "connecting", "key": "k"})["job"]
            eventually(lambda: daemon.call({"op": "info"})["in_flight"] > 100, what="many wait to connect")
            assert daemon.control("pause", job)["state"] == "paused"
            accepting.close()
            eventually(lambda: daemon.call({"op": "info"})["in_flight"] == 0, what="nobody waits any more")
            # The kernel takes one connection beyond a backlog of 0, whose request was written long before.
            assert len(arrivals.all) <= 1
            assert daemon.job(job)["books"]["in_doubt"] == 0
            daemon.control("resume", job)
            assert daemon.wait_done(job)["books"]["sent"] == 3000
        assert repeats(arrivals.received("connecting")) == 0
    finally:
        endpoint.close()


def test_a_pause_while_no_token_can_be_had(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(path, 1000)
        _set_token(path, "")
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "tokenless", "key": "k"})["job"]
            eventually(lambda: "token" in daemon.job(job)["waits_for"], what="it says what it waits for")
            assert daemon.control("pause", job)["state"] == "paused"
            _set_token(path, TOKEN)
            _after_other_work(daemon)
            assert not arrivals.of("tokenless")
            daemon.control("resume", job)
            books = daemon.wait_done(job)["books"]
            assert (books["sent"], books["in_doubt"]) == (1000, 0)


def _set_token(path: Path, token: str) -> None:
    with closing(sqlite3.connect(path)) as site:
        site.execute("UPDATE tp_accesstoken SET accesstoken = ?", (token,))
        site.commit()


def test_a_cancel_ends_a_running_job_with_its_books(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.05) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 6000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "cancelled", "key": "k"})["job"]
            eventually(lambda: len(arrivals.all) > 500, what="sending has begun")
            view = daemon.control("cancel", job)
            answered_at = time.time()
            # Answers take 50 ms: the cancel has waited for them.
            assert (view["ok"], view["state"]) == (True, "cancelled")
            assert daemon.control("cancel", job)["state"] == "cancelled"
            for op in ("pause", "resume"):
                refused = daemon.control(op, job)
                assert (refused["error"], refused["state"]) == ("wrong_state", "cancelled")
            _after_other_work(daemon)
            assert not arrivals.of("cancelled", since=answered_at)
            books = view["books"]
            assert books["balanced"]
            assert books["sent"] == len(arrivals.received("cancelled"))
            assert books["sent"] + books["skipped"] == 6000
            repeated = daemon.call({"content": "cancelled", "key": "k"})
            assert (repeated["repeat"], repeated["state"]) == (True, "cancelled")
        check_books(daemon.ledger)


def test_a_cancel_while_the_audience_is_read(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 20_000)
        pool = "tasks = 2\nslice_size = 20"
        with daemon_process(tmp_path, endpoint.url, site, pool=pool, more=SLOWLY) as daemon:
            job = daemon.call({"content": "planned", "key": "k"})["job"]
            eventually(lambda: daemon.job(job)["state"] == "running", what="some are frozen")
            assert not daemon.job(job)["books"]["planned"]
            assert daemon.control("cancel", job)["state"] in ("cancelled", "cancelling")
            view = daemon.wait_state(job, "cancelled")
            frozen = view["books"]["recipients"]
            assert 0 < frozen < 20_000
            assert view["books"]["balanced"]
            _after_other_work(daemon)
            daemon.kill()
            daemon.start()
            _after_other_work(daemon)
            assert daemon.job(job)["books"]["recipients"] == frozen
            assert len(daemon.who(job)) == frozen
        assert len(arrivals.of("planned")) <= frozen
        check_books(daemon.ledger)


def test_a_cancel_of_jobs_that_stand(tmp_path: Path) -> None:
    """Held, scheduled, and of an account that is not in the settings any more."""
    held_code = b'{"errcode":40037,"errmsg":"invalid template_id rid: 1"}'
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint, lambda path, body: held_code)
        site = sqlite_site(tmp_path / "site.db", 300)
        gone = (
            f'[accounts.gone]\napi_base = "{endpoint.url}"\nchannels = ["custom"]\n'
            f'[accounts.gone.audience]\nurl = "{site}"\n'
        )
        with daemon_process(tmp_path, endpoint.url, site, more=gone) as daemon:
            held = daemon.call({"content": "held", "key": "1"})["job"]
            daemon.wait_state(held, "held")
            later = {"content": "later", "key": "2", "not_before": time.time() + 3600}
            scheduled = daemon.call(later)["job"]
            without = daemon.call({"content": "without", "key": "3", "account": "gone"})["job"]
            daemon.wait_state(without, "held")
            daemon.stop()
            text = daemon.settings.read_text(encoding="utf-8")
            daemon.settings.write_text(text.replace(gone, ""), encoding="utf-8")
            daemon.start()
            assert "settings" in daemon.job(without)["waits_for"]
            assert daemon.control("pause", without)["state"] == "paused"
            asked = len(arrivals.all)
            for job, recipients in ((held, 300), (scheduled, 0), (without, 300)):
                for _ in range(2):
                    view = daemon.control("cancel", job)
                    assert (view["ok"], view["state"]) == (True, "cancelled"), view
                assert view["books"]["recipients"] == view["books"]["skipped"] == recipients
                assert view["books"]["balanced"]
            drained = daemon.call({"op": "drain"})
            assert drained["jobs"] == {"open": 0, "going": 0, "waiting": 0}
        assert len(arrivals.all) == asked
        check_books(daemon.ledger)


def test_a_drain_accepts_nothing_finishes_and_says_so(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.05) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 3000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            later = daemon.call({"content": "later", "key": "1", "not_before": time.time() + 3600})["job"]
            job = daemon.call({"content": "drained", "key": "2"})["job"]
            lines = []
            for line in dial.stream("127.0.0.1", daemon.port, {"op": "drain", "every_s": 0.1}, 60):
                if not lines:
                    refused = daemon.call({"content": "too late", "key": "3"})
                    assert (refused["error"], refused["retry"]) == ("draining", True)
                    assert daemon.call({"op": "info"})["accepts"] == "draining"
                lines.append(line)
            assert daemon.job(job)["state"] == "done"
            assert daemon.job(later)["state"] == "accepted"
            assert [line["state"] for line in lines[:-1]] == ["draining"] * (len(lines) - 1)
            assert lines[0]["jobs"] == {"open": 2, "going": 1, "waiting": 1}
            last = {"ok": True, "op": "drain", "state": "drained", "remaining": 0}
            assert lines[-1] == {**last, "jobs": {"open": 1, "going": 0, "waiting": 1}}
            assert daemon.call({"op": "drain"})["state"] == "drained"
            for _ in range(2):
                assert daemon.call({"op": "drain", "off": True})["state"] == "accepting"
            assert daemon.call({"content": "in time", "key": "3"})["ok"]
            daemon.call({"op": "drain"})
            daemon.kill()
            daemon.start()
            assert daemon.call({"op": "info"})["accepts"] == "yes"


def test_a_control_that_the_ledger_could_not_confirm_is_obeyed_once_it_is_there(tmp_path: Path) -> None:
    """The ledger is locked for longer than a control waits: refused, to be repeated; never half obeyed."""
    with counting_endpoint(latency_s=0.2) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 20_000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "locked", "key": "k"})["job"]
            eventually(lambda: len(arrivals.all) > 300, what="sending has begun")
            with closing(sqlite3.connect(daemon.ledger, isolation_level=None)) as intruder:
                intruder.execute("PRAGMA busy_timeout = 10000")
                intruder.execute("BEGIN IMMEDIATE")
                refused = daemon.control("pause", job)
                assert (refused["error"], refused["retry"]) == ("not_durable", True)
                intruder.execute("ROLLBACK")
            repeated = eventually(
                lambda: (reply := daemon.control("pause", job))["ok"] and reply, what="it is paused"
            )
            assert repeated["state"] == "paused"
            paused_at = time.time()
            _after_other_work(daemon)
            assert not arrivals.of("locked", since=paused_at + 1)
            daemon.control("cancel", job)
            assert daemon.wait_state(job, "cancelled")["books"]["balanced"]


def test_what_an_operator_mistypes(tmp_path: Path) -> None:
    """Unknown jobs, and names with control characters: a plain refusal, and nothing raw in the log."""
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 1)
        with daemon_process(tmp_path, endpoint.url, site) as daemon, RawClient(daemon.port) as client:
            for op in ("pause", "resume", "cancel", "retry", "who", "report"):
                more: dict[str, Any] = {"only": "failed"} if op == "retry" else {}
                for name in ("j0", "\x1b]0;pwned\x07\n", "\u202ej0", "j" * 128):
                    assert client.ask({"op": op, "job": name, **more})["error"] == "unknown_job"
                for wrong in ({"job": "", **more}, more, {"job": "j", "x": 1, **more}):
                    assert client.ask({"op": op, **wrong})["error"] == "bad_frame"
            log = daemon.log
    assert not {"\x1b", "\x07", "\u202e"} & set(log)
    assert all(json.loads(line) for line in log.splitlines())
