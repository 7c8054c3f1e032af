"""The main job with the real process: a frame goes in, every follower gets the text once, the books agree."""

import signal
import time
from pathlib import Path

from bed.daemon import daemon_process
from bed.endpoint import OK, counting_endpoint
from bed.mariadb import PrivateMariaDb
from bed.ports import eventually
from bed.site import mariadb_site, sqlite_site


def test_30_000_followers_in_mariadb_each_get_the_text_once(tmp_path: Path, mariadb: PrivateMariaDb) -> None:
    with (
        counting_endpoint() as endpoint,
        daemon_process(tmp_path, endpoint.url, mariadb_site(mariadb, 30_000), cold=True) as daemon,
    ):
        small = daemon.call({"content": "hello", "flag": 0, "key": "warm-up"})
        daemon.wait_done(small["job"])
        before_kb = daemon.memory_kb()
        endpoint.received.clear()
        reply = daemon.call({"content": "求購信息", "key": "order-1"})
        assert reply["ok"], reply
        view = daemon.wait_done(reply["job"])
        assert len(endpoint.received) == 30_000
        assert set(endpoint.received.values()) == {1}
        assert view["books"]["sent"] == view["books"]["recipients"] == 30_000
        assert view["books"]["by_channel"] == {"custom": 30_000}
        assert view["books"]["balanced"]
        assert view["books"]["in_doubt"] == 0
        # Flat: 30,000 recipients held in memory as objects would be far more.
        assert daemon.memory_kb() - before_kb < 30_000


def test_who_is_outside_the_window_gets_the_template(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        outside = b'{"errcode":45015,"errmsg":"response out of time limit rid: 1-2-3"}'
        endpoint.answer = lambda path, body: (
            outside if "custom" in path and int(str(body["touser"])[1:]) % 5 == 0 else OK
        )
        with daemon_process(tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 1500)) as daemon:
            reply = daemon.call({"content": "求購", "ref": 17})
            books = daemon.wait_done(reply["job"])["books"]
        assert books["by_channel"] == {"custom": 1200, "template": 300}
        assert len(endpoint.received) == 1500
        assert set(endpoint.received.values()) == {1}
        templates = [body for body in endpoint.bodies if "template_id" in body]
        assert len({body["client_msg_id"] for body in templates}) == 300
        assert all(len(str(body["client_msg_id"])) <= 32 for body in templates)


def test_a_drain_loses_nobody_and_repeats_nobody(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.05) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 5000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "hello", "key": "k"})["job"]
            for number in (signal.SIGTERM, signal.SIGINT):
                seen = len(endpoint.received)
                eventually(lambda seen=seen: len(endpoint.received) > seen + 300, what="sending goes on")
                assert daemon.stop(number) == 0
                daemon.start()
            books = daemon.wait_done(job)["books"]
            assert books["sent"] == 5000
            assert books["in_doubt"] == 0
        assert len(endpoint.received) == 5000
        assert set(endpoint.received.values()) == {1}


def test_a_freeze_longer_than_the_lease_loses_nobody(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.05) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 5000)
        with daemon_process(tmp_path, endpoint.url, site, ledger="lease_s = 5") as daemon:
            job = daemon.call({"content": "frozen", "key": "k"})["job"]
            eventually(lambda: len(endpoint.received) > 500, what="sending has begun")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(6)  # what is tested is time itself: the leases must run out
            daemon.process.send_signal(signal.SIGCONT)
            books = daemon.wait_done(job)["books"]
    assert books["sent"] + books["unknown"] == 5000
    assert len(endpoint.received) == 5000
    assert sum(endpoint.received.values()) - 5000 <= books["in_doubt"]


def test_a_frame_is_on_disk_when_it_is_answered(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 100)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            jobs = []
            for number in range(5):
                jobs.append(daemon.call({"content": f"post {number}", "key": f"order-{number}"})["job"])
                daemon.kill()
                daemon.start()
            for job in jobs:
                assert daemon.wait_done(job)["books"]["recipients"] == 100


def test_tail_follows_a_job_to_its_end(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.02) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 3000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            from broadcastd.wire import dial

            job = daemon.call({"content": "hello"})["job"]
            frame = {"op": "tail", "job": job, "every_s": 0.1}
            lines = list(dial.stream("127.0.0.1", daemon.port, frame, 60))
        assert lines[-1]["state"] == "done"
        assert lines[-1]["books"]["sent"] == 3000
        ended = [line["books"]["ended"] for line in lines]
        assert ended == sorted(ended)
        assert len(lines) > 2
