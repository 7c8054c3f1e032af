"""An operator's evening: the commands, and the client library, against the real daemon."""

import csv
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.scripted import Run
from bed.site import openid, sqlite_site

from broadcastd_client import AsyncClient, Client, Refused

FOLLOWERS = 300
REFUSES = openid(7)
"""Unfollowed, says the endpoint, until a test mends it."""
SLOW = "tasks = 2\nsends_per_task = 2"


class Bed:
    """A daemon, the followers' side, and a shell."""

    def __init__(self, daemon: DaemonProcess, endpoint: CountingEndpoint, run: Run) -> None:
        self._run = run
        self.daemon = daemon
        self.endpoint = endpoint
        self.client = Client(port=daemon.port, timeout_s=30)

    def shell(self, *arguments: str, code: int = 0) -> str:
        """What a command printed; it must end with `code`, and a failure is one line."""
        ran = self._run(*arguments, "-c", str(self.daemon.settings))
        assert ran.code == code, ran.out + ran.err
        assert ran.err.count("\n") == (1 if code and not ran.out else 0)
        return ran.out + ran.err

    def json(self, *arguments: str) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self.shell(*arguments, "--json"))
        return reply

    def people(self, job: str, *only: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.shell("who", job, *only))))


@pytest.fixture
def bed(tmp_path: Path, run: Run) -> Iterator[Bed]:
    with counting_endpoint() as endpoint:
        endpoint.answer = lambda path, body: (
            b'{"errcode":43004,"errmsg":"require subscribe"}' if body["touser"] == REFUSES else OK
        )
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        with daemon_process(tmp_path, endpoint.url, site, pool=SLOW, channels=["custom"]) as daemon:
            yield Bed(daemon, endpoint, run)


def test_pause_resume_and_the_report(bed: Bed, tmp_path: Path) -> None:
    bed.endpoint.latency_s = 0.1
    job = bed.json("send", "求購 paused", "--key", "order-1")["job"]
    eventually(lambda: bed.endpoint.calls >= 8, what="some were asked")
    assert bed.json("pause", job)["state"] == "paused"
    assert "`broadcastd resume` lets it go on" in bed.shell("pause", job)
    assert bed.json("job", job)["books"]["remaining"] > 0
    assert "1 paused" in bed.shell("info")
    assert len(bed.people(job, "--outcome", "none")) > 0
    bed.endpoint.latency_s = 0
    assert bed.json("resume", job)["state"] == "running"
    assert "done: 300 = 299 custom + 1 rejected" in bed.shell("watch", job)
    assert "wrong_state" in bed.shell("pause", job, code=5)

    everybody = bed.people(job)
    assert [int(one["id"]) for one in everybody] == list(range(1, FOLLOWERS + 1))
    assert Counter(one["outcome"] for one in everybody) == {"sent": 299, "rejected": 1}
    (refused,) = bed.people(job, "--outcome", "rejected")
    assert (refused["openid"], refused["errcode"], refused["round"]) == (REFUSES, "43004", "1")
    assert [one["id"] for one in bed.people(job, "--openid", openid(9))] == ["9"]

    shown = bed.shell("report", job)
    assert re.search(r"^recipients +300$", shown, re.MULTILINE)
    assert re.search(r"^  sent +299  WeChat took the message$", shown, re.MULTILINE)
    assert re.search(r"^errcode 43004 +1  \S", shown, re.MULTILINE)
    kept = str(tmp_path / "report.json")
    Path(kept).write_text(bed.shell("report", job, "--json"), encoding="utf-8")
    assert "genuine: the report of job" in bed.shell("report", "--verify", kept)
    changed = Path(kept).read_text(encoding="utf-8").replace('"sent": 299', '"sent": 300')
    Path(kept).write_text(changed, encoding="utf-8")
    assert "NOT genuine" in bed.shell("report", "--verify", kept, code=1)
    assert set(bed.endpoint.received.values()) == {1}


def test_cancel_and_retry(bed: Bed) -> None:
    bed.endpoint.latency_s = 0.1
    job = bed.json("send", "cancelled")["job"]
    eventually(lambda: bed.endpoint.calls >= 8, what="some were asked")
    assert bed.json("cancel", job)["state"] in ("cancelling", "cancelled")
    assert "cancelled: 300 = " in bed.shell("watch", job, code=1)
    skipped = bed.people(job, "--outcome", "skipped")
    assert 0 < len(skipped) < FOLLOWERS
    bed.endpoint.latency_s = 0
    again = bed.json("retry", job, "--only", "skipped")
    assert (again["state"], again["round"]["no"]) == ("running", 2)
    assert "done, round 2: 300 = 299 custom + 1 rejected" in bed.shell("watch", job)
    assert {one["round"] for one in bed.people(job)} == {"1", "2"}
    assert set(bed.endpoint.received.values()) == {1}
    bed.endpoint.answer = lambda path, body: OK
    assert "3, of rejected" in bed.shell("retry", job, "--only", "rejected")
    assert "done, round 3: 300 = 300 custom" in bed.shell("watch", job)
    assert set(bed.endpoint.received.values()) == {1}
    assert len(bed.endpoint.received) == FOLLOWERS


def test_times(bed: Bed) -> None:
    later = bed.json("send", "later", "--not-before", "+1h", "--not-after", "+2h")["job"]
    listed = bed.shell("jobs")
    assert f"{later} waits for: its time, " in listed
    assert f"{later} until " in listed
    assert "1 scheduled" in bed.shell("info")
    assert "waits for its time, " in bed.shell("send", "later too", "--not-before", "+1h")
    assert bed.json("cancel", later)["state"] == "cancelled"

    bed.endpoint.latency_s = 0.2  # 15 s for all
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    short = bed.json("send", "until soon", "--not-after", soon, "--on-unknown", "leave")["job"]
    assert bed.json("job", short)["on_unknown"] == "leave"
    assert "expired: 300 = " in bed.shell("watch", short, code=1)
    assert len(bed.people(short, "--outcome", "skipped")) > 0
    assert "has passed" in bed.shell("retry", short, "--only", "skipped", "--not-after", soon, code=5)


def test_drain(bed: Bed) -> None:
    bed.endpoint.latency_s = 0.05
    job = bed.json("send", "the last one")["job"]
    lines = bed.shell("drain", "--every", "0.2").splitlines()
    assert lines[-1] == "drained: 0 jobs open (0 going, 0 waiting), 0 recipients left"
    assert bed.json("job", job)["state"] == "done"
    assert "draining" in bed.shell("send", "too late", code=5)
    assert "accepts   nothing new: it drains" in bed.shell("info")
    assert bed.json("drain", "--no-wait")["state"] == "drained"
    assert bed.shell("drain", "--off").startswith("accepting: ")
    assert bed.json("send", "in time")["ok"]


def test_a_copied_ledger_is_adopted(bed: Bed, tmp_path: Path, run: Run) -> None:
    bed.endpoint.latency_s = 0.1
    job = bed.json("send", "copied")["job"]
    eventually(lambda: bed.endpoint.calls >= 8, what="some were asked")
    bed.daemon.kill()
    bed.endpoint.latency_s = 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for part in tmp_path.glob("ledger.db*"):
        shutil.copy(part, elsewhere)
    site = f"sqlite:///{tmp_path / 'site.db'}"
    with daemon_process(elsewhere, bed.endpoint.url, site, pool=SLOW, channels=["custom"]) as daemon:
        copy = Bed(daemon, bed.endpoint, run)
        assert "waits for an operator" in copy.shell("job", job)
        assert "`broadcastd ledger adopt`" in copy.shell("resume", job, code=5)
        assert copy.shell("ledger", "adopt") == "the ledger is adopted; jobs that go on: 1\n"
        assert "done: 300 = " in copy.shell("watch", job)


def test_adopting_what_is_no_copy_changes_nothing(bed: Bed) -> None:
    assert bed.shell("ledger", "adopt") == "the ledger is adopted; jobs that go on: 0\n"
    bed.daemon.stop()
    assert "start the daemon first" in bed.shell("ledger", "adopt", code=3)


async def test_the_client_library(bed: Bed) -> None:
    client = bed.client
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    job = client.broadcast("library", key="order-9", not_before=in_an_hour, on_unknown="leave")["job"]
    whole = client.job(job)
    assert (whole["state"], whole["on_unknown"]) == ("accepted", "leave")
    assert abs(datetime.fromisoformat(whole["not_before"]) - in_an_hour) < timedelta(milliseconds=1)
    assert client.pause(job)["state"] == "paused"
    assert client.pause(job)["state"] == "paused"
    assert client.resume(job)["state"] == "accepted"
    assert client.cancel(job)["state"] == "cancelled"
    assert client.cancel(job)["state"] == "cancelled"
    with pytest.raises(Refused, match="wrong_state"):
        client.resume(job)

    job = client.broadcast("library", key="order-10")["job"]
    bed.daemon.wait_done(job)
    people = list(client.who(job))
    assert [one["openid"] for one in people] == [openid(number) for number in range(1, FOLLOWERS + 1)]
    assert [one["openid"] for one in client.who(job, "rejected")] == [REFUSES]
    assert [one["id"] async for one in AsyncClient(port=bed.daemon.port).who(job, ["rejected"])] == [7]
    assert list(client.who(job, "none")) == []

    report = client.report(job)["report"]
    assert client.verify(report)["genuine"] is True
    assert client.verify({**report, "recipients": 301})["genuine"] is False
    bed.endpoint.answer = lambda path, body: OK
    assert client.retry(job, "rejected", not_after=in_an_hour)["round"]["no"] == 2
    eventually(lambda: client.job(job)["state"] == "done", what="the second round is done")
    assert bed.endpoint.received[REFUSES] == 1
    assert client.drain()["state"] in ("draining", "drained")
    assert client.drain(off=True)["state"] == "accepting"
