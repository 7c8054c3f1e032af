"""The site's database goes, in every way that it can: the job waits, says for what, and goes on by itself.

A real daemon, a real MariaDB, and between them a proxy that goes wrong as told. What counts is what an
endpoint that knows nothing of broadcastd has received.
"""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.database_faults import FAULTS, NOT_IN_TIME
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.mariadb import PASSWORD, PrivateMariaDb, private_mariadb
from bed.ports import eventually
from bed.proxy import DatabaseProxy, database_proxy, through
from bed.site import TOKEN, mariadb_site

FOLLOWERS = 3000
FRESH = "fresh-token-of-the-site"
STALE = b'{"errcode":42001,"errmsg":"access_token expired rid: 1-2-3"}'
BAD_WORD = b'{"errcode":45168,"errmsg":"keyword in blacklist rid: 1-2-3"}'
SLOW_S = 0.3
"""So slow at first that slices are still to be pulled when the fault comes: some 200 a second."""


def faults(*often: str) -> pytest.MarkDecorator:
    """All of them with --long; in each run those that go through different code in this place."""
    return pytest.mark.parametrize(
        "fault",
        [fault if fault in often else pytest.param(fault, marks=pytest.mark.long) for fault in FAULTS],
    )


@dataclass
class Scene:
    """A site, its database through a proxy, a daemon, and WeChat's counter."""

    site: PrivateMariaDb
    proxy: DatabaseProxy
    endpoint: CountingEndpoint
    daemon: DaemonProcess

    def broadcast(self) -> str:
        return str(self.daemon.call({"content": "a post", "key": "k"})["job"])

    def with_fault(self, fault: str, table: str = "tp_receiver") -> AbstractContextManager[None]:
        return FAULTS[fault].goes_wrong(self.site, self.proxy, table)

    def sending(self) -> None:
        eventually(lambda: len(self.endpoint.received) > 100, 60, "sending has begun")

    def says(self, job: str, what: str, why: str) -> None:
        """It waits for this: `job` says so, `info` says so, the log says so, and pauses grow."""

        def said() -> bool:
            info = self.daemon.call({"op": "info"})["accounts"]["default"]
            return f"{what}: {why}" in self.daemon.job(job)["waits_for"] and why in info["audience"]

        eventually(said, 40, f"it waits for: {what}: {why}")
        eventually(lambda: self._longest_pause_s(why) >= 1, 40, f"the log says: {why}, and pauses grow")

    def _longest_pause_s(self, words: str) -> float:
        names = ("job_not_planned", "audience_unavailable", "token_unavailable")
        lines = [line for name in names for line in self.daemon.events(name) if words in line["error"]]
        return max((line["retry_in_s"] for line in lines), default=0)

    def held(self, job: str, words: str) -> dict[str, Any]:
        """The job waits for an operator, and says why."""
        view = eventually(
            lambda: (view := self.daemon.job(job))["state"] == "held" and view, 60, "it is held"
        )
        assert words in view["reason"]
        assert view["books"]["skipped"] == 0
        assert self.daemon.events("job_held")[-1]["reason"] == view["reason"]
        return dict(view)

    def resume(self, job: str) -> None:
        assert self.daemon.call({"op": "resume", "job": job})["state"] == "running"

    def everybody_once(self, job: str, followers: int = FOLLOWERS) -> None:
        """Exactly once, nobody skipped or in doubt, the books balance, all is well, no secret is out."""
        self.endpoint.latency_s = 0
        view = self.daemon.wait_done(job)
        books = view["books"]
        assert books["sent"] == books["recipients"] == len(self.endpoint.received) == followers
        assert set(self.endpoint.received.values()) == {1}
        assert (books["skipped"], books["in_doubt"], books["balanced"]) == (0, 0, True)
        info = self.daemon.call({"op": "info"})["accounts"]["default"]
        assert (view["waits_for"], info["audience"], info["wechat"]) == ("", "ok", "ok")
        log = self.daemon.log
        for secret in (PASSWORD, TOKEN, FRESH, "SELECT", "Traceback"):
            assert secret not in log


@contextmanager
def a_scene(folder: Path, site: PrivateMariaDb, followers: int = FOLLOWERS) -> Iterator[Scene]:
    mariadb_site(site, followers)
    with (
        database_proxy(site) as proxy,
        counting_endpoint(SLOW_S) as endpoint,
        daemon_process(
            folder, endpoint.url, through(proxy, site), channels=["custom"],
            pool="tasks = 4\nslice_size = 100", more="query_timeout_s = 1\nconnect_timeout_s = 1",
        ) as daemon,
    ):  # fmt: skip
        yield Scene(site, proxy, endpoint, daemon)


@pytest.fixture
def scene(tmp_path: Path, mariadb: PrivateMariaDb) -> Iterator[Scene]:
    with a_scene(tmp_path, mariadb) as scene:
        yield scene


@pytest.fixture
def large_scene(tmp_path: Path, mariadb: PrivateMariaDb) -> Iterator[Scene]:
    """Its audience is read in three blocks, and frozen 400 at a time."""
    with a_scene(tmp_path, mariadb, 12_000) as scene:
        yield scene


# -- every fault, in each thing that the database is asked -------------------------------------------------


@faults("hangs", "password-changes", "is-full")
def test_planning_waits(scene: Scene, fault: str) -> None:
    words = FAULTS[fault].words.format(table="tp_receiver")
    with scene.with_fault(fault):
        job = scene.broadcast()
        scene.says(job, "it cannot be planned", words)
        assert scene.daemon.job(job)["books"]["recipients"] == 0
        assert scene.daemon.call({"content": "a post", "dry_run": True})["error"] == "audience_unavailable"
    scene.everybody_once(job)


@faults("refuses", "answers-are-lost", "is-locked", "no-more-for-this-user")
def test_slices_wait(scene: Scene, fault: str) -> None:
    words = FAULTS[fault].words.format(table="tp_receiver")
    job = scene.broadcast()
    scene.sending()
    with scene.with_fault(fault):
        scene.says(job, "its audience cannot be read", words)
        assert scene.daemon.job(job)["state"] == "running"
    scene.everybody_once(job)


@faults("hangs")
def test_the_token_is_waited_for(scene: Scene, fault: str) -> None:
    """WeChat takes only the fresh token, and it cannot be read."""
    words = FAULTS[fault].words.format(table="tp_accesstoken")
    valid = [TOKEN]
    scene.endpoint.answer = lambda path, body: OK if f"access_token={valid[0]}" in path else STALE
    job = scene.broadcast()
    scene.sending()
    scene.site.run(f"UPDATE tp_accesstoken SET accesstoken = '{FRESH}';")
    with scene.with_fault(fault, "tp_accesstoken"):
        valid[0] = FRESH
        info = eventually(
            lambda: (
                (text := scene.daemon.call({"op": "info"})["accounts"]["default"]["wechat"]) != "ok" and text
            ),
            60,
            "info says it",
        )
        assert words in info
        # One read fails for all who wait for it, and the pauses grow: 5 s, 10 s.
        eventually(lambda: len(scene.daemon.events("token_unavailable")) >= 2, 60, "the log says it")
        assert scene.daemon.job(job)["waits_for"]
    lines = scene.daemon.events("token_unavailable")
    assert [line["retry_in_s"] for line in lines] == [5, 10, 20, 30, 30][: len(lines)]
    assert all(f"the access token cannot be read: {words}" in line["error"] for line in lines)
    scene.everybody_once(job)


# -- half an answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words"),
    [("cut", "the site's database cut the connection (2013)"), ("hang", NOT_IN_TIME)],
)
def test_planning_goes_on_where_its_read_broke_off(
    large_scene: Scene, how: Literal["cut", "hang"], words: str
) -> None:
    """Ten bytes an id: after 5,000 of them and some, twice."""
    scene = large_scene
    scene.proxy.break_answers(55_000, how, times=2)
    job = scene.broadcast()
    eventually(lambda: len(scene.daemon.events("job_not_planned")) == 2, 60, "the log says it")
    assert {line["error"] for line in scene.daemon.events("job_not_planned")} == {words}
    assert scene.daemon.job(job)["books"]["recipients"] >= 5000
    scene.everybody_once(job, 12_000)
    assert scene.proxy.broken == 2


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_half_a_slice_is_pulled_again_whole(scene: Scene, how: Literal["cut", "hang"]) -> None:
    job = scene.broadcast()
    scene.sending()
    scene.proxy.break_answers(1000, how, times=6)
    eventually(lambda: scene.proxy.broken == 6, 60, "answers broke off")
    scene.everybody_once(job)


def test_connections_that_are_cut_again_and_again(scene: Scene) -> None:
    job = scene.broadcast()
    for _ in range(6):
        before = scene.proxy.requests
        eventually(lambda before=before: scene.proxy.requests > before + 3, 60, "it has asked again")
        scene.proxy.cut()
    scene.everybody_once(job)


# -- another server in its place ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_server() -> Iterator[PrivateMariaDb]:
    with tempfile.TemporaryDirectory(prefix="bd-") as folder, private_mariadb(Path(folder)) as server:
        yield server


def fails_over(scene: Scene, server: PrivateMariaDb) -> None:
    """The address leads to another server; the old one's connections hang, as a lost machine's do."""
    scene.proxy.target = server.port
    scene.proxy.hang_open_ones()


def test_a_failover_to_a_whole_copy_is_not_noticed(scene: Scene, other_server: PrivateMariaDb) -> None:
    mariadb_site(other_server, FOLLOWERS)
    job = scene.broadcast()
    scene.sending()
    fails_over(scene, other_server)
    scene.site.run("DELETE FROM tp_receiver;")
    scene.everybody_once(job)


@pytest.mark.parametrize("rows", [0, 1500])
def test_a_copy_that_lags_holds_the_job_and_skips_nobody(
    scene: Scene, other_server: PrivateMariaDb, rows: int
) -> None:
    mariadb_site(other_server, rows)
    job = scene.broadcast()
    scene.sending()
    fails_over(scene, other_server)
    scene.endpoint.latency_s = 0
    held = scene.held(job, "of the 100 recipients of slice")
    assert "max_gone_share" in held["reason"]
    mariadb_site(other_server, FOLLOWERS)
    scene.resume(job)
    scene.everybody_once(job)


def test_planning_does_not_end_on_a_copy_that_lacks_whom_it_froze(
    large_scene: Scene, other_server: PrivateMariaDb
) -> None:
    """Else 400 were frozen, the copy has nobody after them, and the rest of 12,000 would never be asked."""
    scene = large_scene
    mariadb_site(other_server, 0)
    scene.proxy.break_answers(80_000, "cut")
    scene.proxy.target_after_break = other_server.port
    job = scene.broadcast()
    held = scene.held(job, "audience.max_gone_share allows: is the database whole and up to date?")
    assert not held["books"]["planned"]
    mariadb_site(other_server, 12_000)
    scene.resume(job)
    scene.everybody_once(job, 12_000)


def test_an_empty_copy_from_the_start_holds_the_job(scene: Scene, other_server: PrivateMariaDb) -> None:
    mariadb_site(other_server, 0)
    fails_over(scene, other_server)
    job = scene.broadcast()
    scene.held(job, "the audience query yields nobody")
    mariadb_site(other_server, FOLLOWERS)
    scene.resume(job)
    scene.everybody_once(job)


def test_resuming_after_other_trouble_does_not_say_that_people_may_be_gone(
    scene: Scene, other_server: PrivateMariaDb
) -> None:
    mariadb_site(other_server, 0)
    scene.endpoint.answer = lambda path, body: BAD_WORD
    job = scene.broadcast()
    scene.held(job, "45168")
    eventually(lambda: scene.daemon.call({"op": "info"})["in_flight"] == 0, 60, "no such answer is under way")
    scene.endpoint.answer = lambda path, body: OK
    fails_over(scene, other_server)
    scene.resume(job)
    scene.held(job, "max_gone_share")
    mariadb_site(other_server, FOLLOWERS)
    scene.resume(job)
    scene.everybody_once(job)
