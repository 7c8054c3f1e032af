"""A site hears that its jobs have ended: the real daemon, with kills and a site that is away."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.receiver import Receiver, receiver
from bed.site import sqlite_site

SECRET = "the-secret-of-the-site-0123456789"
FINISHED = """
[accounts.default.finished]
url = "{url}"
secret_file = "hook_secret"
sql = "UPDATE task SET status = 2, n = n + 1 WHERE id = :ref"
"""


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def shop() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture
def daemon(tmp_path: Path, endpoint: CountingEndpoint, shop: Receiver) -> Iterator[DaemonProcess]:
    site = sqlite_site(tmp_path / "site.db", 100)
    with closing(sqlite3.connect(tmp_path / "site.db")) as database:
        database.executescript(
            "CREATE TABLE task (id TEXT, status INTEGER, n INTEGER);"
            "INSERT INTO task VALUES ('post-17', 1, 0), ('post-18', 1, 0);"
        )
    (tmp_path / "hook_secret").write_text(SECRET + "\n")
    daemon = DaemonProcess(tmp_path, endpoint.url, site, more=FINISHED.format(url=shop.url))
    try:
        yield daemon
    finally:
        shop.answers.set()
        daemon.close()


def tasks(daemon: DaemonProcess) -> dict[str, int]:
    with closing(sqlite3.connect(daemon.folder / "site.db")) as database:
        return dict(database.execute("SELECT id, status FROM task").fetchall())


def told(daemon: DaemonProcess) -> list[str]:
    return [str(one["job"]) for one in daemon.events("finish_told")]


def test_a_kill_between_the_end_and_the_hook_costs_nothing(daemon: DaemonProcess, shop: Receiver) -> None:
    daemon.start()
    shop.answers.clear()
    first = daemon.call({"content": "a post", "ref": "post-17"})["job"]
    daemon.wait_done(first)
    eventually(lambda: shop.calls, what="the site is asked")
    daemon.kill()
    assert told(daemon) == []
    shop.answers.set()
    daemon.start()
    eventually(lambda: told(daemon) == [first], what="it is told after the start")
    assert [call.body for call in shop.calls] == [shop.calls[0].body] * 2, "the same once more"
    assert shop.calls[0].json["books"]["sent"] == 100
    assert tasks(daemon) == {"post-17": 2, "post-18": 1}

    daemon.kill()
    daemon.start()
    second = daemon.call({"content": "another", "ref": "post-18"})["job"]
    eventually(lambda: told(daemon) == [first, second], what="only the new one is told")
    assert tasks(daemon) == {"post-17": 2, "post-18": 2}
    assert SECRET not in daemon.log
    assert "told?shop=1" not in daemon.log


def test_a_site_that_is_away_slows_no_job_and_is_told_when_it_is_back(
    daemon: DaemonProcess, shop: Receiver
) -> None:
    daemon.start()
    shop.status = 503
    jobs = [daemon.call({"content": f"post {number}", "ref": "post-17"})["job"] for number in range(3)]
    for job in jobs:
        assert daemon.wait_done(job, within_s=30)["books"]["sent"] == 100
    eventually(lambda: daemon.events("finish_not_told"))
    assert "HTTP 503" in daemon.events("finish_not_told")[0]["error"]
    shop.status = 200
    eventually(lambda: set(told(daemon)) == set(jobs), 60, "all are told")
    assert daemon.stop() == 0


def test_jobs_that_ended_before_there_was_a_hook_are_not_told(daemon: DaemonProcess, shop: Receiver) -> None:
    whole = daemon.settings.read_text(encoding="utf-8")
    without = whole.replace(FINISHED.format(url=shop.url), "")
    assert without != whole
    daemon.settings.write_text(without, encoding="utf-8")
    daemon.start()
    daemon.wait_done(daemon.call({"content": "before"})["job"])
    daemon.stop()
    daemon.settings.write_text(whole, encoding="utf-8")
    daemon.start()
    job = daemon.call({"content": "after", "ref": "post-17"})["job"]
    eventually(lambda: told(daemon) == [job])
    cancelled = daemon.call({"content": "to nobody", "ref": "post-18", "not_before": "2999-01-01T00:00:00Z"})
    assert not cancelled["ok"], "too far away"
    retried = daemon.call({"content": "later", "ref": "post-18", "to": ["o1"]})["job"]
    eventually(lambda: told(daemon) == [job, retried])
    assert [call.json["job"] for call in shop.calls] == [job, retried]
