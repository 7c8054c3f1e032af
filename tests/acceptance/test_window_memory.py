"""What is remembered of followers, with the real process: calls that must fail are not made."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bed.arrivals import Arrivals, lost, repeats
from bed.books import check_books, rows
from bed.commands import finished
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, counting_endpoint
from bed.mariadb import PrivateMariaDb
from bed.ports import eventually
from bed.site import openid, sqlite_site

FOLLOWERS = 2000
OUTSIDE = b'{"errcode":45015,"errmsg":"response out of time limit rid: 1-2-3"}'
UNFOLLOWED = b'{"errcode":43004,"errmsg":"require subscribe rid: 1-2-3"}'
EVERYBODY = [openid(number) for number in range(1, FOLLOWERS + 1)]


def all_outside(path: str, body: dict[str, Any]) -> bytes:
    return OUTSIDE if "custom" in path else OK


def a_tenth_is_gone(path: str, body: dict[str, Any]) -> bytes:
    return UNFOLLOWED if is_gone(body["touser"]) else OK


def is_gone(name: str) -> bool:
    return name.endswith("1")


class Scene:
    """A daemon, and what reached the endpoint."""

    def __init__(self, daemon: DaemonProcess, arrivals: Arrivals) -> None:
        self.daemon = daemon
        self.arrivals = arrivals

    def send(self, tag: str, **frame: Any) -> dict[str, Any]:
        """Send a job whole; its view."""
        job = self.daemon.call({"content": tag, "key": tag, **frame})["job"]
        return self.daemon.wait_done(job)

    def calls(self, tag: str) -> Counter[str]:
        """How many calls of each channel a job made."""
        return Counter(
            "custom" if "custom" in one.path else "template" for one in self.arrivals.of(tag)
        )  # fmt: skip

    def asked(self, tag: str) -> Counter[str]:
        """openid to how often it was asked."""
        return Counter(one.openid for one in self.arrivals.of(tag))


@contextmanager
def scene(folder: Path, verdict: Any, *, latency_s: float = 0.0, **settings: Any) -> Iterator[Scene]:
    with counting_endpoint(latency_s) as endpoint:
        site = sqlite_site(folder / "site.db", FOLLOWERS)
        with daemon_process(folder, endpoint.url, site, **settings) as daemon:
            yield Scene(daemon, Arrivals(endpoint, verdict))
        check_books(daemon.ledger)


@pytest.mark.parametrize("killed_between", [False, True])
def test_the_second_job_asks_hardly_anybody_outside_the_window_by_custom(
    tmp_path: Path, killed_between: bool
) -> None:
    with scene(tmp_path, all_outside) as here:
        first = here.send("first")
        assert here.calls("first") == {"custom": FOLLOWERS, "template": FOLLOWERS}
        assert first["calls_saved"] == 0
        if killed_between:
            here.daemon.kill()
            here.daemon.start()
        second = here.send("second")
        assert here.arrivals.received("second") == Counter(EVERYBODY)
        calls = here.calls("second")
        assert 0 < calls["custom"] <= 0.05 * FOLLOWERS
        assert calls["template"] == FOLLOWERS
        assert second["calls_saved"] == FOLLOWERS - calls["custom"]
        assert second["books"]["by_channel"] == {"template": FOLLOWERS}
        assert (second["books"]["balanced"], second["books"]["errcodes"]) == (True, {})
        report = here.daemon.call({"op": "report", "job": second["job"]})["report"]
        assert report["calls_saved"] == second["calls_saved"]
        assert not here.daemon.events("window_memory_doubted")
        said = _cli(here.daemon, "job", second["job"])
        assert f"{second['calls_saved']:,} that WeChat would have refused" in said


def test_a_ledger_in_mariadb_remembers_too(tmp_path: Path, mariadb: PrivateMariaDb) -> None:
    url = mariadb.url_of(mariadb.new_database())
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint, all_outside)
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        with daemon_process(tmp_path, endpoint.url, site, ledger_url=url) as daemon:
            here = Scene(daemon, arrivals)
            here.send("first")
            daemon.kill()
            daemon.start()
            second = here.send("second")
            assert here.calls("first") == {"custom": FOLLOWERS, "template": FOLLOWERS}
            assert arrivals.received("second") == Counter(EVERYBODY)
            assert 0 < here.calls("second")["custom"] <= 0.05 * FOLLOWERS
            assert second["calls_saved"] == FOLLOWERS - here.calls("second")["custom"]


def test_windows_that_opened_meanwhile_are_found_out(tmp_path: Path) -> None:
    with scene(tmp_path, all_outside) as here:
        here.send("first")
        here.arrivals.verdict = lambda path, body: OK
        second = here.send("second")
        assert here.arrivals.received("second") == Counter(EVERYBODY)
        by_custom = second["books"]["by_channel"]["custom"]
        # 20 samples of one in 50 tell: some thousand got the template until then.
        assert 0.05 * FOLLOWERS < by_custom < 0.95 * FOLLOWERS
        assert second["calls_saved"] == FOLLOWERS - by_custom
        (doubted,) = here.daemon.events("window_memory_doubted")
        assert doubted["account"] == "default"
        third = here.send("third")
        assert third["books"]["by_channel"] == {"custom": FOLLOWERS}
        assert third["calls_saved"] == 0
        left = rows(here.daemon.ledger, "SELECT count(*) FROM followers WHERE closed_at IS NOT NULL")
        assert left == [(0,)]


def test_with_the_memory_off_every_call_is_made(tmp_path: Path) -> None:
    with scene(tmp_path, all_outside, account='window = "off"') as here:
        for tag in ("first", "second"):
            assert here.send(tag)["calls_saved"] == 0
            assert here.calls(tag) == {"custom": FOLLOWERS, "template": FOLLOWERS}
        assert rows(here.daemon.ledger, "SELECT count(*) FROM followers") == [(0,)]


def test_who_is_gone_is_not_asked_again_until_a_retry(tmp_path: Path) -> None:
    gone = {one for one in EVERYBODY if is_gone(one)}
    with scene(tmp_path, a_tenth_is_gone) as here:
        here.send("first")
        second = here.send("second")
        assert set(here.asked("second")) >= set(EVERYBODY) - gone
        assert len(set(here.asked("second")) & gone) <= 0.1 * len(gone)
        assert second["books"]["rejected"] == len(gone)
        assert second["books"]["errcodes"] == {"43004": len(gone)}
        assert second["calls_saved"] == len(gone) - len(set(here.asked("second")) & gone)
        listed = here.daemon.who(second["job"], outcome="rejected")
        asked = here.asked("second")
        assert {(one["openid"], one["errcode"], one["channel"]) for one in listed} == {
            (one, 43004, "custom" if one in asked else "") for one in gone
        }
        # They follow again, and an operator says so: everybody is asked, whatever is remembered.
        here.arrivals.verdict = lambda path, body: OK
        here.arrivals.all.clear()
        here.daemon.control("retry", second["job"], only="rejected")
        retried = here.daemon.wait_done(second["job"])
        assert here.asked("second") == Counter(gone)
        assert retried["books"]["sent"] == FOLLOWERS
        assert retried["calls_saved"] == second["calls_saved"]
        third = here.send("third")
        assert here.asked("third") == Counter(EVERYBODY)
        assert third["calls_saved"] == 0


def test_a_test_send_asks_whomever_it_names(tmp_path: Path) -> None:
    def verdict(path: str, body: dict[str, Any]) -> bytes:
        return UNFOLLOWED if is_gone(body["touser"]) else all_outside(path, body)

    with scene(tmp_path, verdict) as here:
        here.send("first")
        names = EVERYBODY[:40]
        view = here.send("try", to=names)
        assert view["calls_saved"] == 0
        by_custom = Counter(one.openid for one in here.arrivals.of("try") if "custom" in one.path)
        assert by_custom == Counter(names)


def test_a_kill_in_the_middle_loses_nobody_and_keeps_the_memory(tmp_path: Path) -> None:
    with scene(tmp_path, all_outside, pool="tasks = 8") as here:
        here.send("first")
        here.arrivals.endpoint.latency_s = 0.05
        job = here.daemon.call({"content": "second", "key": "second"})["job"]
        eventually(lambda: len(here.arrivals.received("second")) > 300, what="the second job has begun")
        here.daemon.kill()
        here.daemon.start()
        view = here.daemon.wait_done(job)
        received = here.arrivals.received("second")
        assert lost(EVERYBODY, received, []) == set()
        assert repeats(received) <= view["books"]["in_doubt"]
        # Who is in doubt is asked by custom again: what was asked before must not come by another channel.
        assert here.calls("second")["custom"] <= 0.05 * FOLLOWERS + view["books"]["in_doubt"]
        assert view["calls_saved"] >= 0.95 * FOLLOWERS - view["books"]["in_doubt"]


def _cli(daemon: DaemonProcess, *words: str) -> str:
    done = finished(*words, "-c", daemon.settings)
    done.check_returncode()
    return done.stdout
