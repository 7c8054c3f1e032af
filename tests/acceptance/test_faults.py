"""What goes wrong out there: the database, the token, WeChat, the ledger. Real servers, really stopped."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bed.daemon import daemon_process
from bed.endpoint import OK, counting_endpoint
from bed.mariadb import PASSWORD, PrivateMariaDb
from bed.ports import eventually
from bed.site import TOKEN, mariadb_site, sqlite_site

STALE = b'{"errcode":42001,"errmsg":"access_token expired rid: 1-2-3"}'


def test_a_database_that_is_away_delays_a_job_and_says_so(tmp_path: Path, mariadb: PrivateMariaDb) -> None:
    url = mariadb_site(mariadb, 3000)
    mariadb.stop()
    try:
        with counting_endpoint() as endpoint, daemon_process(tmp_path, endpoint.url, url) as daemon:
            job = daemon.call({"content": "patience", "key": "k"})["job"]
            waiting = eventually(lambda: daemon.job(job)["waits_for"], what="it says what it waits for")
            assert "cannot be planned" in waiting
            assert daemon.call({"op": "info"})["accounts"]["default"]["audience"] == waiting
            dry_run = daemon.call({"content": "patience", "dry_run": True})
            assert dry_run["error"] == "audience_unavailable"
            assert dry_run["retry"] is True
            mariadb.start()
            books = daemon.wait_done(job)["books"]
            assert books["sent"] == 3000
            assert daemon.job(job)["waits_for"] == ""
            log = daemon.log
        assert set(endpoint.received.values()) == {1}
        assert PASSWORD not in log
        assert PASSWORD not in waiting
    finally:
        mariadb.stop()
        mariadb.start()


def test_a_database_that_dies_under_a_job_skips_nobody(tmp_path: Path, mariadb: PrivateMariaDb) -> None:
    url = mariadb_site(mariadb, 12_000)
    # Twice what its tasks hold at a time: it cannot end without the database.
    slices = "tasks = 60\nslice_size = 100"
    with (
        counting_endpoint(latency_s=0.01) as endpoint,
        daemon_process(tmp_path, endpoint.url, url, pool=slices) as daemon,
    ):
        job = daemon.call({"content": "it dies", "key": "k"})["job"]
        eventually(lambda: len(endpoint.received) > 1000, what="sending has begun")
        mariadb.stop(kill=True)
        try:
            eventually(lambda: daemon.job(job)["waits_for"], what="it notices")
        finally:
            mariadb.start()
        books = daemon.wait_done(job)["books"]
    assert books["sent"] == books["recipients"] == 12_000
    assert books["skipped"] == 0
    assert set(endpoint.received.values()) == {1}


def test_who_opts_out_meanwhile_is_skipped_but_not_when_too_many_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    with counting_endpoint() as endpoint:
        site = sqlite_site(path, 100)
        endpoint.answer = lambda path, body: b'{"errcode":-1,"errmsg":"system error"}'
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "opt out", "key": "k"})["job"]
            eventually(lambda: endpoint.calls >= 100, what="everybody was asked once")
            with closing(sqlite3.connect(path)) as database:
                database.execute("UPDATE tp_receiver SET receive_status = 0 WHERE id = 7")
                database.commit()
            endpoint.answer = lambda path, body: OK
            books = daemon.wait_done(job)["books"]
            assert (books["sent"], books["skipped"]) == (99, 1)

            endpoint.answer = lambda path, body: b'{"errcode":-1,"errmsg":"system error"}'
            calls = endpoint.calls
            job = daemon.call({"content": "all gone", "key": "k2"})["job"]
            eventually(lambda: endpoint.calls >= calls + 99, what="everybody was asked once")
            with closing(sqlite3.connect(path)) as database:
                database.execute("DELETE FROM tp_receiver")
                database.commit()
            held = eventually(
                lambda: (view := daemon.job(job))["state"] == "held" and view, what="it is held"
            )
            assert "max_gone_share" in held["reason"]
            assert held["books"]["skipped"] == 0
            daemon.kill()
            daemon.start()
            assert daemon.job(job)["state"] == "held"
            assert daemon.call({"op": "resume", "job": job})["state"] == "running"
            assert daemon.wait_done(job)["books"]["skipped"] == 99
            assert daemon.call({"op": "resume", "job": job})["error"] == "wrong_state"


def test_a_stale_token_costs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    fresh = "fresh-token-of-the-site"
    with counting_endpoint(latency_s=0.01) as endpoint:
        valid = [TOKEN]
        endpoint.answer = lambda path, body: OK if f"access_token={valid[0]}" in path else STALE
        with daemon_process(tmp_path, endpoint.url, sqlite_site(path, 4000)) as daemon:
            job = daemon.call({"content": "token", "key": "k"})["job"]
            eventually(lambda: len(endpoint.received) > 500, what="sending has begun")
            valid[0] = fresh
            eventually(lambda: "stale" in daemon.job(job)["waits_for"], what="it says what it waits for")
            with closing(sqlite3.connect(path)) as database:
                database.execute("UPDATE tp_accesstoken SET accesstoken = ?", (fresh,))
                database.commit()
            books = daemon.wait_done(job)["books"]
            log = daemon.log
    assert books["sent"] == 4000
    assert set(endpoint.received.values()) == {1}
    assert TOKEN not in log
    assert fresh not in log


def test_an_api_that_refuses_connections_costs_nobody(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.01) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 3000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            endpoint.close()
            job = daemon.call({"content": "refused", "key": "k"})["job"]
            waiting = eventually(lambda: daemon.job(job)["waits_for"], what="it says what it waits for")
            assert "WeChat cannot be reached" in waiting
            endpoint.start()
            books = daemon.wait_done(job)["books"]
    assert books["sent"] == 3000
    assert books["in_doubt"] == 0
    assert len(endpoint.received) == 3000
    assert set(endpoint.received.values()) == {1}


@pytest.mark.parametrize("on_unknown", ["resend", "leave"])
def test_answers_that_are_lost_are_counted_in_doubt(tmp_path: Path, on_unknown: str) -> None:
    with counting_endpoint() as endpoint:
        seen: set[object] = set()

        def lose_some(path: str, body: dict[str, object]) -> bytes:
            """The message is taken, and the first answer to every tenth is not WeChat's."""
            who = body["touser"]
            if int(str(who)[1:]) % 10 or who in seen:
                return OK
            seen.add(who)
            endpoint.received[str(who)] += 1
            return b"<html>Bad gateway</html>"

        endpoint.answer = lose_some
        site = sqlite_site(tmp_path / "site.db", 1000)
        with daemon_process(
            tmp_path, endpoint.url, site, ledger=f'on_unknown = "{on_unknown}"', channels=["custom"]
        ) as daemon:
            books = daemon.wait_done(daemon.call({"content": "lost", "key": "k"})["job"])["books"]
    repeats = sum(endpoint.received.values()) - 1000
    assert len(endpoint.received) == 1000
    if on_unknown == "resend":
        assert (books["sent"], books["in_doubt"], repeats) == (1000, 100, 100)
    else:
        assert (books["sent"], books["unknown"], repeats) == (900, 100, 0)


def test_a_ledger_that_cannot_be_written_refuses_and_recovers(tmp_path: Path) -> None:
    with (
        counting_endpoint(latency_s=0.02) as endpoint,
        daemon_process(tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 3000)) as daemon,
    ):
        job = daemon.call({"content": "locked", "key": "k"})["job"]
        eventually(lambda: len(endpoint.received) > 300, what="sending has begun")
        with closing(sqlite3.connect(daemon.ledger, isolation_level=None)) as intruder:
            intruder.execute("PRAGMA busy_timeout = 10000")
            intruder.execute("BEGIN IMMEDIATE")
            refused = daemon.call({"content": "now what", "key": "k2"})
            assert refused["error"] == "not_durable"
            assert refused["retry"] is True
            assert "locked" in refused["message"]
            intruder.execute("ROLLBACK")
        accepted = eventually(
            lambda: (reply := daemon.call({"content": "now what", "key": "k2"}))["ok"] and reply,
            what="it accepts again",
        )
        assert accepted["repeat"] is False
        for one in (job, accepted["job"]):
            books = daemon.wait_done(one)["books"]
            assert books["sent"] == 3000
            assert books["in_doubt"] == 0
    assert set(endpoint.received.values()) == {2}


def test_a_code_that_holds_keeps_everybody_for_resume(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        endpoint.answer = lambda path, body: b'{"errcode":40037,"errmsg":"invalid template_id rid: 1"}'
        site = sqlite_site(tmp_path / "site.db", 500)
        with daemon_process(tmp_path, endpoint.url, site, channels=["template"]) as daemon:
            job = daemon.call({"content": "mistyped", "key": "k"})["job"]
            held = eventually(
                lambda: (view := daemon.job(job))["state"] == "held" and view, what="it is held"
            )
            assert held["reason"].startswith("40037 the template id is wrong")
            assert held["books"]["ended"] == 0
            endpoint.answer = lambda path, body: OK
            daemon.call({"op": "resume", "job": job})
            books = daemon.wait_done(job)["books"]
    assert books["sent"] == 500
    assert books["in_doubt"] == 0
    assert set(endpoint.received.values()) == {1}


def test_jobs_take_turns(tmp_path: Path) -> None:
    """A job of 40 does not wait for one of 20,000 that came before it."""
    with counting_endpoint(latency_s=0.02) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 20_000)
        with daemon_process(
            tmp_path, endpoint.url, site, pool="tasks = 8\nslice_size = 100", channels=["custom"]
        ) as daemon:
            large = daemon.call({"content": "large", "key": "large"})["job"]
            eventually(lambda: len(endpoint.received) > 500, what="the large one is under way")
            small = daemon.call({"content": "small", "to": [f"o{n}" for n in range(40)]})["job"]
            assert daemon.wait_done(small)["books"]["sent"] == 40
            assert daemon.job(large)["state"] == "running"
