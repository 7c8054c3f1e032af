"""`broadcastd audience sync` as an operator runs it: whole, broken off, refused."""

import json
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bed.commands import begin, finished
from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.ports import eventually
from bed.site import mariadb_site, openid, sqlite_site
from bed.user_list import UserListEndpoint, user_list
from bed.warm import Started

NAME = "broadcastd_followers"
FOLLOWERS = 25_000


class Site:
    """The account's database, the list, and the command."""

    def __init__(self, folder: Path, url: str, rows: Any, endpoint: UserListEndpoint) -> None:
        self.folder, self.url, self.rows, self.list = folder, url, rows, endpoint
        self.config = folder / "sync.toml"
        self.configure()

    def configure(self, more: str = "") -> None:
        self.config.write_text(
            f'[accounts.default]\napi_base = "{self.list.url}"\nchannels = ["custom"]\n'
            f'[accounts.default.audience]\nurl = "{self.url}"\n{more}',
            encoding="utf-8",
        )

    def sync(self, *options: str, code: int = 0) -> str:
        """What it says, on both streams."""
        done = finished("audience", "sync", "-c", self.config, *options, timeout_s=120)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def result(self, *options: str, code: int = 0) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.sync("--json", *options, code=code))
        return value

    @property
    def present(self) -> int:
        return int(self.rows(f"SELECT count(*) FROM {NAME} WHERE gone_at IS NULL")[0][0])


@pytest.fixture(params=["sqlite", "mariadb"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with user_list([openid(number) for number in range(FOLLOWERS)]) as endpoint:
        if request.param == "sqlite":
            path = tmp_path / "site.db"

            def rows(sql: str) -> list[Any]:
                with closing(sqlite3.connect(path)) as database:
                    found = database.execute(sql).fetchall()
                    database.commit()
                return found

            yield Site(tmp_path, sqlite_site(path, 0), rows, endpoint)
        else:
            server = request.getfixturevalue("mariadb")
            url = mariadb_site(server, 0)
            server.run(f"DROP TABLE IF EXISTS {NAME}; DROP TABLE IF EXISTS broadcastd_sync;")
            yield Site(tmp_path, url, lambda sql: server.rows(sql, "site"), endpoint)


def test_filled_refreshed_and_sent_to(site: Site) -> None:
    said = site.sync("--create")
    assert "page 3: 25,000 followers (25,000 new, 0 back) of 25,000" in said
    assert f"{NAME}: complete, 25,000 followers (25,000 new, 0 back), 0 gone" in said
    query = re.search(r'query = "(.*)"', said)
    assert query is not None
    assert len(site.list.calls) == 3
    site.list.followers = [*site.list.followers[1000:], "oNEW"]
    site.list.points_on_at_the_end = True
    last = site.result()["pass"]
    assert (last["seen"], last["inserted"], last["gone"], last["stage"]) == (24_001, 1, 1000, "complete")
    assert len(site.list.calls) == 3 + 4  # the list's end was an empty page this time
    assert site.present == 24_001
    with (
        counting_endpoint() as endpoint,
        daemon_process(site.folder, endpoint.url, site.url, more=f'query = "{query[1]}"') as daemon,
    ):
        reply = daemon.call({"content": "求購", "dry_run": True})
        assert reply["recipients"] == 24_001


def test_killed_while_it_waits_for_a_page_it_goes_on_with_that_page(site: Site) -> None:
    for pages, cursor in enumerate(("", openid(9_999), openid(19_999))):
        asked, go_on = threading.Event(), threading.Event()
        site.list.answer = _held_at(cursor, asked, go_on)
        process = _launched(site, "--create")
        eventually(asked.is_set, 60, "the page is asked for")
        process.kill()
        process.wait(30)
        go_on.set()
        assert site.rows("SELECT stage, pages, seen FROM broadcastd_sync") == [
            ("listing", pages, pages * 10_000)
        ]
        assert site.present == pages * 10_000
    site.list.answer = lambda after, token: None
    said = site.sync()
    assert "goes on after page 2" in said
    assert site.present == FOLLOWERS
    assert site.rows("SELECT seen, inserted, pages FROM broadcastd_sync") == [(FOLLOWERS, FOLLOWERS, 3)]


def test_killed_while_it_writes_what_is_there_and_what_is_counted_agree(site: Site) -> None:
    site.list.page_size = 2_500
    for _ in range(5):
        answered = threading.Event()
        answer_at = len(site.list.calls) + 2

        def answer(_after: str, _token: str, answered: Any = answered, at: int = answer_at) -> None:
            if len(site.list.calls) >= at:
                answered.set()

        site.list.answer = answer
        process = _launched(site, "--create")
        eventually(answered.is_set, 60, "a page is answered")
        process.kill()
        process.wait(30)
        # MariaDB may have the commit of a dead process still before it.
        eventually(lambda: site.rows("SELECT seen FROM broadcastd_sync") == [(site.present,)], 10, "the same")
    site.list.answer = lambda after, token: None
    last = site.result()["pass"]
    assert (last["no"], last["stage"], last["seen"]) == (1, "complete", FOLLOWERS)
    assert site.present == FOLLOWERS


def _held_at(cursor: str, asked: threading.Event, go_on: threading.Event) -> Any:
    def answer(after: str, _token: str) -> None:
        if after == cursor:
            asked.set()
            go_on.wait(60)

    return answer


def _launched(site: Site, *options: str) -> Started:
    with Path(os.devnull).open("wb") as nowhere:
        return begin("audience", "sync", "-c", site.config, *options, output=nowhere, errors=nowhere)


def test_a_second_one_is_refused_and_ctrl_c_leaves_nothing_in_the_way(site: Site) -> None:
    asked, go_on = threading.Event(), threading.Event()
    site.list.answer = _held_at("", asked, go_on)
    process = _launched(site, "--create")
    try:
        eventually(asked.is_set, 60, "a page is asked for")
        assert "another audience sync works on this table" in site.sync(code=5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert site.rows("SELECT holder FROM broadcastd_sync") == [("",)]
    finally:
        process.kill()
        process.wait(30)
        go_on.set()
    site.list.answer = lambda after, token: None
    assert site.result()["pass"]["seen"] == FOLLOWERS


def test_the_days_calls(site: Site) -> None:
    site.configure("sync_calls_a_day = 2\n")
    said = site.sync("--create", code=5)
    assert "the 2 calls of today (audience.sync_calls_a_day) are used up; run it again after 20" in said
    assert "00:00 in Asia/Shanghai" in said
    assert "so far: 20,000 followers (20,000 new, 0 back); nobody was marked as gone" in said
    assert "would go on with the pass that was broken off, after 20,000 of 25,000" in site.sync("--dry-run")
    assert len(site.list.calls) == 2
    site.rows("UPDATE broadcastd_sync SET calls_day = '2020-01-01'")  # the next day, so to speak
    assert site.result()["pass"]["pages"] == 3
    assert site.present == FOLLOWERS


def test_wechats_own_no(site: Site) -> None:
    site.list.answer = lambda after, token: {"errcode": 45009, "errmsg": "reach max api daily quota limit"}
    assert "45009" in site.sync("--create", code=5)
    site.list.answer = lambda after, token: {"errcode": 48001, "errmsg": "api unauthorized"}
    assert "WeChat says: 48001 the account may not use this API" in site.sync(code=1)
    assert site.present == 0


def test_suspiciously_few_are_not_believed(site: Site) -> None:
    site.sync("--create")
    everybody = site.list.followers
    site.list.followers = [openid(number) for number in range(90_000, 100_000)]
    said = site.sync(code=5)
    assert "25,000 of the 25,000 followers known before are not on the list" in said
    assert "--force" in said
    assert site.present == FOLLOWERS + 10_000
    calls = len(site.list.calls)
    site.list.followers = everybody
    assert site.result(code=0)["pass"]["gone"] == 10_000  # read once more: it was another account's
    assert len(site.list.calls) == calls + 3
    site.list.followers = everybody[:10_000]
    site.sync(code=5)
    calls = len(site.list.calls)
    assert site.result("--force")["pass"]["gone"] == 15_000
    assert len(site.list.calls) == calls  # the list is known: nothing is asked again
    assert site.present == 10_000


def test_a_list_that_ends_too_early_is_not_believed(site: Site) -> None:
    site.sync("--create")
    end = {"total": FOLLOWERS, "count": 0, "next_openid": ""}
    site.list.answer = lambda after, token: end if after else None
    said = site.sync(code=5)
    assert "the list ended after 10,000 followers, while WeChat says there are 25,000" in said
    assert site.present == FOLLOWERS


def test_dry_run_changes_and_asks_nothing(site: Site) -> None:
    said = site.sync("--dry-run", "--create")
    assert f"would make {NAME} and broadcastd_sync, begin a new pass" in said
    assert "there is no table" in site.sync("--dry-run")
    assert "--create makes what is missing" in site.sync(code=1)
    assert site.list.calls == []
