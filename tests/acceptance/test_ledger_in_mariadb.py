"""The real process with its ledger in MariaDB: killed, without its ledger for a while, without its lock."""

import random
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.mariadb import PASSWORD, PrivateMariaDb, folder_of_servers, private_mariadb
from bed.ports import eventually
from bed.site import openid, sqlite_site

from broadcastd.ledgers.mysql_link import lock_name


def _kill_after(daemon: DaemonProcess, endpoint: CountingEndpoint, job: str, calls: int) -> None:
    until = endpoint.calls + calls
    eventually(lambda: endpoint.calls >= until or daemon.job(job)["state"] == "done", what="sending goes on")
    daemon.kill()
    daemon.start()


@pytest.mark.parametrize("on_unknown", ["resend", pytest.param("leave", marks=pytest.mark.long)])
def test_after_kill_9_nobody_is_lost(tmp_path: Path, mariadb: PrivateMariaDb, on_unknown: str) -> None:
    followers, database = 5000, mariadb.new_database()
    with counting_endpoint(latency_s=0.02) as endpoint:
        site = sqlite_site(tmp_path / "site.db", followers)
        ledger = f'on_unknown = "{on_unknown}"'
        with daemon_process(
            tmp_path, endpoint.url, site, ledger_url=mariadb.url_of(database), ledger=ledger
        ) as daemon:
            job = daemon.call({"content": "求購信息", "key": "k"})["job"]
            for _ in range(4):
                _kill_after(daemon, endpoint, job, random.choice([0, 1, 30, 400]))
            books = daemon.wait_done(job)["books"]
            again = daemon.call({"content": "求購信息", "key": "k"})
            log = daemon.log
    listed = mariadb.rows("SELECT recipient_id FROM outcomes WHERE outcome = 'unknown'", database)
    unknown = {openid(number) for (number,) in listed}
    assert {openid(number) for number in range(1, followers + 1)} == set(endpoint.received) | unknown
    repeats = sum(endpoint.received.values()) - len(endpoint.received)
    assert repeats <= books["in_doubt"]
    assert books["balanced"]
    assert books["sent"] + books["unknown"] == followers
    assert (again["job"], again["repeat"]) == (job, True)
    assert on_unknown == "resend" or repeats == 0
    assert PASSWORD not in log
    assert f"mysql://127.0.0.1:{mariadb.port}/{database}" in log


@pytest.fixture
def own_server() -> Iterator[PrivateMariaDb]:
    """To be killed."""
    with (
        tempfile.TemporaryDirectory(prefix="bd-", dir=folder_of_servers()) as folder,
        private_mariadb(Path(folder), durable=True) as server,
    ):
        yield server


def test_while_the_ledger_is_away_nobody_is_asked_and_nobody_is_lost(
    tmp_path: Path, own_server: PrivateMariaDb
) -> None:
    url = own_server.url_of(own_server.new_database())
    with counting_endpoint(latency_s=0.02) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 6000)
        with daemon_process(tmp_path, endpoint.url, site, ledger_url=url) as daemon:
            job = daemon.call({"content": "hello", "key": "k"})["job"]
            eventually(lambda: len(endpoint.received) > 500, what="sending has begun")
            own_server.stop(kill=True)
            let_through = len(endpoint.received) + 2 * 60 * 16
            eventually(lambda: daemon.events("ledger_unwritable"), what="the daemon says so")
            refused = daemon.call({"content": "another", "key": "k2"})
            assert (refused["error"], refused["retry"]) == ("not_durable", True)
            assert "the ledger cannot be written" in refused["message"]
            counts = deque([-1], maxlen=25)
            eventually(lambda: counts.append(len(endpoint.received)) or len({*counts}) == 1, what="silence")
            assert len(endpoint.received) <= let_through
            own_server.start()
            books = daemon.wait_done(job)["books"]
            assert daemon.call({"content": "another", "key": "k2"})["ok"]
            log = daemon.log
    assert (books["sent"], books["balanced"]) == (6000, True)
    repeats = sum(endpoint.received.values()) - len(endpoint.received)
    assert len(endpoint.received) == 6000
    assert repeats <= books["in_doubt"]
    assert PASSWORD not in log
    assert "Traceback" not in log


def test_who_lost_the_ledger_to_another_ends_and_says_to_whom(
    tmp_path: Path, mariadb: PrivateMariaDb
) -> None:
    database = mariadb.new_database()
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 10)
        with daemon_process(tmp_path, endpoint.url, site, ledger_url=mariadb.url_of(database)) as daemon:
            lock = lock_name(database)
            other = threading.Thread(target=mariadb.rows, args=(f"SELECT GET_LOCK('{lock}', 60)",))
            other.start()
            waiting = "SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock'"
            eventually(lambda: mariadb.run(waiting) == "1\n", what="another waits for the lock")
            mariadb.run(f"EXECUTE IMMEDIATE CONCAT('KILL ', IS_USED_LOCK('{lock}'))")
            other.join()
            assert daemon.process is not None
            assert daemon.process.wait(30) == 1
            assert "is in use by another broadcastd" in daemon.log.splitlines()[-1]
            assert "Traceback" not in daemon.log
            mariadb.rows(f"SELECT RELEASE_LOCK('{lock}')")
