"""How fast the real daemon calls: rates changed while a job runs, endpoints that bear only so much."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import sqlite_site

BUSY = b'{"errcode":-1,"errmsg":"system error rid: 1-2-3"}'
LATENCY_S = 0.05


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint(LATENCY_S) as endpoint:
        yield endpoint


class Overloaded:
    """Bears so many calls at once, and answers -1 to the rest."""

    def __init__(self, bears: int) -> None:
        self.bears = bears
        self.inside = 0

    def answer(self, path: str, body: dict[str, object]) -> bytes:
        del path, body
        if self.inside >= self.bears:
            return BUSY
        self.inside += 1
        asyncio.get_running_loop().call_later(LATENCY_S, self._out)
        return OK

    def _out(self) -> None:
        self.inside -= 1


def started(daemon: DaemonProcess, **fields: Any) -> str:
    reply = daemon.call({"content": "a post", **fields})
    assert reply["ok"], reply
    return str(reply["job"])


def custom(daemon: DaemonProcess) -> dict[str, Any]:
    lane: dict[str, Any] = daemon.call({"op": "info"})["accounts"]["default"]["channels"]["custom"]
    return lane


def counted(endpoint: CountingEndpoint, seconds: float) -> float:
    """Calls a second that arrive within a while: a count over a known time, not a wait for something."""
    before, began_s = endpoint.calls, time.monotonic()
    eventually(lambda: time.monotonic() - began_s >= seconds, seconds + 30)
    return (endpoint.calls - before) / (time.monotonic() - began_s)


def test_a_rate_that_is_changed_counts_at_once(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    site = sqlite_site(tmp_path / "site.db", 60_000)
    with daemon_process(tmp_path, endpoint.url, site) as daemon:
        started(daemon)
        eventually(lambda: endpoint.calls > 2_000, 60)
        unlimited = counted(endpoint, 1)
        reply = daemon.call({"op": "rate", "channel": "custom", "per_second": 50, "in_flight": 7})
        lane = reply["accounts"]["default"]["custom"]
        assert (lane["rate_per_s"], lane["max_in_flight"]) == (50, 7)
        eventually(lambda: custom(daemon)["in_flight"] <= 7, 10)
        assert 40 <= counted(endpoint, 4) <= 60
        assert custom(daemon)["in_flight"] <= 7
        daemon.call({"op": "rate", "channel": "custom", "per_second": "off", "in_flight": "auto"})
        assert custom(daemon)["max_in_flight"] == 960
        eventually(lambda: counted(endpoint, 1) > 0.3 * unlimited > 100, 60, "as fast as before")


def test_the_settings_give_a_channel_its_rate(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    site = sqlite_site(tmp_path / "site.db", 300)
    more = "[accounts.default.custom]\nrate_per_s = 60\nmax_in_flight = 3\n"
    with daemon_process(tmp_path, endpoint.url, site, more=more) as daemon:
        job = daemon.wait_done(started(daemon))
        assert (custom(daemon)["rate_per_s"], custom(daemon)["max_in_flight"]) == (60, 3)
    assert job["books"]["sent"] == 300
    report_s = job["last_sent_at"], job["first_sent_at"]
    assert all(report_s)
    assert endpoint.calls == 300


def test_two_jobs_of_one_account_share_its_rate(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    endpoint.latency_s = 0.0
    contents: Counter[str] = Counter()

    def answer(path: str, body: dict[str, Any]) -> bytes:
        del path
        contents[body["text"]["content"][:1]] += 1
        return OK

    endpoint.answer = answer
    site = sqlite_site(tmp_path / "site.db", 40_000)
    more = "[accounts.default.custom]\nrate_per_s = 400\n"
    with daemon_process(tmp_path, endpoint.url, site, more=more) as daemon:
        started(daemon, content="A", key="1")
        eventually(lambda: contents["A"] > 300, 60)
        started(daemon, content="B", key="2")
        eventually(lambda: contents["B"] > 200, 60, "B begins")
        before = contents.copy()
        eventually(lambda: contents.total() - before.total() >= 1_600, 60)
        share = (contents["B"] - before["B"]) / (contents.total() - before.total())
        assert 0.35 <= share <= 0.65


@pytest.mark.long
@pytest.mark.parametrize("bears", [40])
def test_an_endpoint_that_bears_only_so_much(tmp_path: Path, endpoint: CountingEndpoint, bears: int) -> None:
    followers = 8_000
    endpoint.answer = Overloaded(bears).answer
    site = sqlite_site(tmp_path / "site.db", followers)
    with daemon_process(tmp_path, endpoint.url, site) as daemon:
        job_id = started(daemon)
        eventually(lambda: endpoint.calls > followers / 2, 60)
        assert custom(daemon)["limit"] <= 2 * bears
        books = daemon.wait_done(job_id)["books"]
    assert books["sent"] == followers
    assert set(endpoint.received.values()) == {1}
    assert endpoint.calls <= 1.5 * followers


@pytest.mark.long
def test_busy_for_the_first_call_of_each(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    followers = 10_000
    seen: set[str] = set()

    def answer(path: str, body: dict[str, object]) -> bytes:
        del path
        if body["touser"] in seen:
            return OK
        seen.add(str(body["touser"]))
        return BUSY

    endpoint.answer = answer
    site = sqlite_site(tmp_path / "site.db", followers)
    with daemon_process(tmp_path, endpoint.url, site) as daemon:
        books = daemon.wait_done(started(daemon), within_s=90)["books"]
    assert books["sent"] == followers
    assert endpoint.calls <= 2.05 * followers


@pytest.mark.long
def test_a_fifth_of_busy_at_random_does_not_slow_it(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    followers = 20_000

    def answer(path: str, body: dict[str, object]) -> bytes:
        del path, body
        return BUSY if endpoint.calls % 5 == 0 else OK

    endpoint.answer = answer
    site = sqlite_site(tmp_path / "site.db", followers)
    with daemon_process(tmp_path, endpoint.url, site) as daemon:
        job_id = started(daemon)
        eventually(lambda: endpoint.calls > followers / 2, 60)
        # It may just be finding out again that the trouble is not ours.
        eventually(lambda: custom(daemon)["limit"] >= 200, 60)
        books = daemon.wait_done(job_id)["books"]
    assert books["sent"] + books["failed"] == followers
    assert books["failed"] <= followers / 1000


@pytest.mark.long
def test_an_outage_of_busy_for_all_fails_nobody(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    followers = 6_000
    endpoint.answer = lambda path, body: BUSY
    site = sqlite_site(tmp_path / "site.db", followers)
    with daemon_process(tmp_path, endpoint.url, site) as daemon:
        job_id = started(daemon)
        eventually(lambda: daemon.events("channel_out_of_order"), 30)
        began_s = time.monotonic()
        # 40 s: longer than the 31 s within which one recipient's tries are used up.
        eventually(lambda: time.monotonic() - began_s > 40, 60)
        calls = endpoint.calls
        waits_for = daemon.job(job_id)["waits_for"]
        endpoint.answer = lambda path, body: OK
        books = daemon.wait_done(job_id)["books"]
    assert books["sent"] == followers
    assert "nothing but -1" in waits_for
    assert calls < followers
    assert daemon.events("channel_answers_again")
