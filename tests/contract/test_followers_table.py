"""The port `FollowersTable`, on SQLite and on a private MariaDB; and what a table must be like."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from bed.site import mariadb_site, openid, sqlite_site

from broadcastd.audiences import followers_table as module
from broadcastd.audiences.engine import open_database
from broadcastd.audiences.followers_table import SqlFollowersTable
from broadcastd.errors import SyncLostError, TableUnfitError
from broadcastd.settings import AudienceSettings
from broadcastd.sync_ports import Claim, Stage, UserPage

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)  # 2026-02-01 00:30:00 in Shanghai
LOCAL = "2026-02-01 00:30:00"
SHANGHAI = ZoneInfo("Asia/Shanghai")
UNTIL = NOW + timedelta(minutes=2)
NAME = "broadcastd_followers"


def nobody_ended(_holder):
    return False


class Site:
    """A database without a table of followers, and the root's way into it."""

    def __init__(self, request, tmp_path):
        if request.param == "sqlite":
            self._server = None
            self._path = tmp_path / "site.db"
            self.url = sqlite_site(self._path, 0)
        else:
            self._server = request.getfixturevalue("mariadb")
            self.url = mariadb_site(self._server, 0)
            self._server.run(f"DROP TABLE IF EXISTS {NAME}; DROP TABLE IF EXISTS broadcastd_sync;")

    def rows(self, sql):
        if self._server is not None:
            return [tuple(map(_plain, row)) for row in self._server.rows(sql, "site")]
        with closing(sqlite3.connect(self._path)) as site:
            rows = site.execute(sql).fetchall()
            site.commit()
        return [tuple(map(_plain, row)) for row in rows]

    @property
    def is_mysql(self):
        return self._server is not None


def _plain(value):
    return str(value) if isinstance(value, datetime) else value


@pytest.fixture(params=["sqlite", "mariadb"])
def site(request, tmp_path):
    return Site(request, tmp_path)


@pytest.fixture
async def open_table(site):
    databases = []

    def make(account="default", name=NAME):
        databases.append(open_database(AudienceSettings(url=site.url), writable=True))
        return SqlFollowersTable(databases[-1], name, account, SHANGHAI)

    yield make
    for database in databases:
        await database.close()
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


@pytest.fixture
async def table(open_table):
    """Made and claimed."""
    one = open_table()
    await one.make()
    assert await one.claim(Claim("one", UNTIL), NOW, nobody_ended) is None
    return one


def page(*openids, total=None, next_openid=""):
    return UserPage(openids, next_openid, len(openids) if total is None else total)


async def whole_pass(table, *openids, now=NOW):
    begun = await table.begin(now)
    return await table.mark_gone(await table.add(begun, page(*openids), now, is_last=True), now)


async def test_what_there_is_not_is_made_once(open_table, site):
    table = open_table()
    assert (await table.standing(NOW)).missing == [NAME, "broadcastd_sync"]
    await table.make()
    await table.make()
    standing = await table.standing(NOW)
    assert (standing.missing, standing.last, standing.calls_today) == ([], None, 0)
    assert site.rows(f"SELECT count(*) FROM {NAME}") == [(0,)]


async def test_new_ones_are_inserted_and_known_ones_seen(table, site):
    await whole_pass(table, "oA", "oa", "ob")
    later = NOW + timedelta(days=1)
    done = await whole_pass(table, "oc", "oa", "oA", "ob", now=later)
    assert (done.stage, done.seen, done.inserted, done.known, done.gone) == (Stage.COMPLETE, 4, 1, 3, 0)
    assert site.rows(f"SELECT id, openid, receive_status, first_seen_at FROM {NAME} ORDER BY id") == [
        (1, "oA", 1, LOCAL), (2, "oa", 1, LOCAL), (3, "ob", 1, LOCAL), (4, "oc", 1, "2026-02-02 00:30:00"),
    ]  # fmt: skip
    assert site.rows(f"SELECT count(*) FROM {NAME} WHERE seen_at = '2026-02-02 00:30:00'") == [(4,)]
    assert (await table.standing(later)).last == done


async def test_who_left_is_marked_and_unmarked_and_an_opt_out_survives(table, site):
    await whole_pass(table, "oa", "ob", "oc")
    site.rows(f"UPDATE {NAME} SET receive_status = 0 WHERE openid = 'ob'")
    done = await whole_pass(table, "oa")
    assert done.gone == 2
    assert site.rows(f"SELECT openid FROM {NAME} WHERE gone_at IS NULL") == [("oa",)]
    done = await whole_pass(table, "oa", "ob")
    assert (done.returned, done.known, done.gone) == (1, 1, 0)
    assert site.rows(f"SELECT openid, receive_status FROM {NAME} WHERE gone_at IS NULL ORDER BY id") == [
        ("oa", 1), ("ob", 0),
    ]  # fmt: skip


async def test_followers_twice_on_the_pages_count_once(table):
    begun = await table.begin(NOW)
    first = await table.add(begun, page("oa", "ob", "oa", next_openid="ob"), NOW, is_last=False)
    second = await table.add(first, page("ob", "oc"), NOW, is_last=True)
    assert (second.seen, second.inserted, second.pages) == (3, 3, 2)


async def test_odd_openids_are_kept_and_impossible_ones_left_out(table, site):
    odd = ("x", "求購", "o" * 128, "o'; DROP TABLE x; --", "o%s:x")
    done = await whole_pass(table, *odd, "", "o" * 129)
    assert (done.seen, done.left_out) == (5, 2)
    assert {row[0] for row in site.rows(f"SELECT openid FROM {NAME}")} == set(odd)


async def test_a_page_is_written_once(table):
    begun = await table.begin(NOW)
    first = await table.add(begun, page("oa", next_openid="oa"), NOW, is_last=False)
    again = await table.add(begun, page("oa", "ob", next_openid="ob"), NOW, is_last=False)
    assert (again.pages, again.seen, again.next_openid) == (first.pages, 1, "oa")


async def test_who_came_while_the_list_was_read_is_not_gone(table, site):
    await whole_pass(table, "oa", "ob")
    begun = await table.begin(NOW)
    site.rows(f"INSERT INTO {NAME} (openid) VALUES ('onew')")  # the site's own, after a subscribe event
    listed = await table.add(begun, page("oa"), NOW, is_last=True)
    assert await table.unseen(listed) == 1
    await table.mark_gone(listed, NOW)
    assert site.rows(f"SELECT openid FROM {NAME} WHERE gone_at IS NOT NULL") == [("ob",)]


async def test_marking_in_blocks_and_once_more(table, site, monkeypatch):
    monkeypatch.setattr(module, "IDS_IN_A_SWEEP", 3)
    await whole_pass(table, *map(openid, range(10)))
    listed = await table.add(await table.begin(NOW), page(openid(4)), NOW, is_last=True)
    assert (await table.mark_gone(listed, NOW)).gone == 9
    assert (await table.mark_gone((await table.standing(NOW)).last, NOW)).gone == 9
    assert site.rows(f"SELECT count(*) FROM {NAME} WHERE gone_at IS NULL") == [(1,)]


async def test_calls_are_counted_by_the_day_and_over_the_accounts_tables(table, open_table):
    assert [await table.count_call(NOW, UNTIL), await table.count_call(NOW, UNTIL)] == [1, 2]
    other = open_table(name="others")
    await other.make()
    await other.claim(Claim("two", UNTIL), NOW, nobody_ended)
    assert await other.count_call(NOW, UNTIL) == 3
    assert (await table.standing(NOW)).calls_today == 3
    midnight = datetime(2026, 2, 1, 16, 0, tzinfo=UTC)
    assert (await table.standing(midnight - timedelta(seconds=1))).calls_today == 3
    assert (await table.standing(midnight)).calls_today == 0
    assert await table.count_call(midnight, UNTIL) == 1


async def test_one_at_a_time(table, open_table):
    other = open_table()
    refused = await other.claim(Claim("two", UNTIL), NOW, nobody_ended)
    assert refused == Claim("one", UNTIL)
    assert await other.claim(Claim("two", UNTIL), NOW, lambda holder: holder == "one") is None
    begun = await other.begin(NOW)
    for write in (
        table.begin(NOW),
        table.count_call(NOW, UNTIL),
        table.add(begun, page("oa"), NOW, is_last=True),
        table.mark_gone(begun, NOW),
    ):
        with pytest.raises(SyncLostError):
            await write
    await table.release()  # not its own any more
    assert (await table.claim(Claim("one", UNTIL), NOW, nobody_ended)).holder == "two"
    assert (await other.standing(NOW)).last == begun
    assert await table.claim(Claim("one", UNTIL + timedelta(1)), UNTIL, nobody_ended) is None
    await table.release()
    assert await other.claim(Claim("two", UNTIL), NOW, nobody_ended) is None


async def test_another_accounts_table_is_refused(table, open_table):
    other = open_table("second")
    with pytest.raises(TableUnfitError, match="holds the followers of account default, not of second"):
        await other.standing(NOW)
    await table.release()
    with pytest.raises(TableUnfitError):
        await other.claim(Claim("two", UNTIL), NOW, nobody_ended)
    assert await table.claim(Claim("one", UNTIL), NOW, nobody_ended) is None


async def test_what_the_sites_own_table_lacks_is_said_and_mends_it(open_table, site):
    table = open_table(name="tp_receiver")
    with pytest.raises(TableUnfitError) as error:
        await table.standing(NOW)
    first, *lines = str(error.value).splitlines()
    assert "tp_receiver cannot be synchronised as it is" in first
    unnumbered = "id, " if site.is_mysql else ""  # SQLite numbers an INTEGER key by itself
    assert lines.pop().strip() == f"new rows need a default for: {unnumbered}send_status, receive_status"
    for line in lines:
        statement, _, _why = line.strip().partition(";")
        site.rows(statement)
    if site.is_mysql:
        site.rows(
            "ALTER TABLE tp_receiver MODIFY id INT AUTO_INCREMENT, ALTER send_status SET DEFAULT 1,"
            " ALTER receive_status SET DEFAULT 1"
        )
        await table.make()
        assert (await table.standing(NOW)).missing == []
        await table.claim(Claim("one", UNTIL), NOW, nobody_ended)
        assert (await whole_pass(table, "oa", "oA")).inserted == 2
    else:  # defaults of columns cannot be changed there
        with pytest.raises(TableUnfitError, match="as it is:\n  new rows need a default for: send_status"):
            await table.standing(NOW)
