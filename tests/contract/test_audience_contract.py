"""One suite for the port `Audience`: the site's query on SQLite and on a private MariaDB, and a list."""

import asyncio
import gc
import itertools
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest
from bed.mariadb import PASSWORD
from bed.ports import free_port
from bed.proxy import database_proxy, through
from bed.site import TABLES, mariadb_site, openid, sqlite_site

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.sql import IDS_IN_A_BLOCK, SqlAudience
from broadcastd.delivery.inline_audience import InlineAudience
from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AccountSettings

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)  # 2026-02-01 00:30:00 in Shanghai
ALL = range(1, 12)


class SqliteSite:
    """The site's tables in a file."""

    def __init__(self, folder):
        self.path = folder / "site.db"
        self.url = f"sqlite:///{self.path}"

    def run(self, sql):
        with closing(sqlite3.connect(self.path)) as site:
            site.executescript(sql)
            site.commit()

    def fill(self, followers):
        sqlite_site(self.path, followers)


class MariaDbSite:
    """The site's tables in the private MariaDB, which its tests share one after the other."""

    def __init__(self, server):
        self.server = server
        self.url = server.url

    def run(self, sql):
        self.server.run(sql)

    def fill(self, followers):
        mariadb_site(self.server, followers)
        self.run("UPDATE tp_receiver SET id = id / 2 ORDER BY id;")


@pytest.fixture(params=["sqlite", "mariadb"])
def site(request, tmp_path):
    if request.param == "sqlite":
        return SqliteSite(tmp_path)
    return MariaDbSite(request.getfixturevalue("mariadb"))


@pytest.fixture
async def open_audience():
    """Builds audiences, and closes their pools."""
    databases = []

    def make(url, **audience):
        settings = AccountSettings.model_validate(
            {"audience": {"url": url, **audience}, "template": {"template_id": "T1"}}
        )
        databases.append(open_database(settings.audience))
        return SqlAudience(databases[-1], settings)

    make.databases = databases
    yield make
    for database in databases:
        await database.close()
    # A file that could not be opened leaves aiosqlite's thread behind, with a last word for the loop.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


@pytest.fixture(params=["sqlite", "mariadb", "list"])
async def audience(request, tmp_path, open_audience):
    """Eleven followers with the ids 1 to 11."""
    if request.param == "list":
        return InlineAudience([openid(one) for one in ALL])
    site = (
        SqliteSite(tmp_path) if request.param == "sqlite" else MariaDbSite(request.getfixturevalue("mariadb"))
    )
    site.fill(len(ALL))
    return open_audience(site.url)


async def ids(audience, after=None, now=NOW):
    async with audience.ids(now, after) as blocks:
        return [one async for block in blocks for one in block]


# -- every implementation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [None, 0, 1, 7, 10, 11, 99])
async def test_ids_above_one_ascending(audience, after):
    assert await ids(audience, after) == [one for one in ALL if one > (after or 0)]


@pytest.mark.parametrize(
    ("page", "size", "expected"), [(0, 5, [1, 2, 3, 4, 5]), (2, 5, [11]), (3, 5, []), (0, 500, ALL)]
)
async def test_pages(audience, page, size, expected):
    assert list(await audience.page(NOW, page, size)) == list(expected)


@pytest.mark.parametrize(("first", "last"), [(1, 11), (3, 5), (5, 5), (0, 2), (10, 99), (12, 99), (5, 4)])
async def test_pulling_has_both_bounds(audience, first, last):
    rows = [(one, openid(one)) for one in ALL if first <= one <= last]
    assert [tuple(row) for row in await audience.pull(NOW, first, last)] == rows


async def test_counting(audience):
    assert await audience.count(NOW) == 11
    assert [await audience.count(NOW, through=last) for last in (0, 1, 7, 11, 99)] == [0, 1, 7, 11, 11]


# -- the site's query --------------------------------------------------------------------------------------


async def test_who_opted_out_is_gone(site, open_audience):
    site.fill(5)
    audience = open_audience(site.url)
    assert await ids(audience) == [1, 2, 3, 4, 5]
    site.run("UPDATE tp_receiver SET receive_status = 0 WHERE id IN (2, 5);")
    assert [one for one, _ in await audience.pull(NOW, 1, 5)] == [1, 3, 4]
    assert await audience.count(NOW) == 3


@pytest.mark.parametrize("setting", ["auto", "said"])
@pytest.mark.parametrize("kind", ["datetime", "unix"])
async def test_expired_rows_are_excluded_in_the_accounts_time(site, open_audience, kind, setting):
    times = ["2026-02-01 00:30:01", "2026-02-01 00:30:00", "2026-01-31 16:30:01", "2027-01-01 00:00:00"]
    rows = (
        [f"'{one}'" for one in times]
        if kind == "datetime"
        else [int(NOW.timestamp()) + n for n in (1, 0, -9, 99)]
    )
    column = "DATETIME" if kind == "datetime" else "INTEGER"
    site.run(TABLES.replace("expire_time DATETIME", f"expire_time {column}"))
    site.run(
        "INSERT INTO tp_receiver VALUES "
        + ", ".join(f"({one}, 'o{one}', {until}, 0, 1)" for one, until in enumerate(rows, 1))
        + ", (5, 'o5', NULL, 1, 1), (6, 'o6', NULL, 0, 1), (7, 'o7', NULL, 1, 0);"
    )
    audience = open_audience(site.url, now="auto" if setting == "auto" else kind)
    assert await ids(audience) == [1, 4, 5]
    assert [one for one, _ in await audience.pull(NOW, 1, 9)] == [1, 4, 5]
    assert await audience.page(NOW, 0, 2) == [1, 4]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("openid LIKE '10:30%'", [1]),
        ("openid LIKE '%:x%'", [2]),
        ("openid = ':noon' OR openid = 'a :b'", [3, 4]),
        ("openid LIKE '100\\%%' OR openid = '%s'", [6]),
        ("openid = '::' OR id % 5 = 0", [5, 7]),
        ("openid = '10:30%' AND receive_status = 1 AND :now > '2000-01-01 00:00:00'", [1]),
    ],
)
async def test_colons_and_percent_signs_are_the_sites_own(site, open_audience, where, found):
    site.run(TABLES)
    names = ["10:30%", "b:x", ":noon", "a :b", "plain", "%s", "::"]
    site.run(
        "INSERT INTO tp_receiver VALUES "
        + ", ".join(f"({one}, '{name}', NULL, 1, 1)" for one, name in enumerate(names, 1))
        + ";"
    )
    audience = open_audience(site.url, query=f"SELECT id, openid FROM tp_receiver WHERE {where}")
    assert await ids(audience) == found
    assert [one for one, _ in await audience.pull(NOW, 1, 7)] == found
    assert await ids(audience, found[0]) == found[1:]
    assert await audience.count(NOW) == len(found)


async def test_30000_ids_come_in_blocks(site, open_audience):
    site.fill(30_000)
    sizes, seen = [], []
    async with open_audience(site.url).ids(NOW, None) as blocks:
        async for block in blocks:
            sizes.append(len(block))
            seen += block
    assert seen == list(range(1, 30_001))
    assert max(sizes) <= IDS_IN_A_BLOCK
    assert len(sizes) >= 6


async def test_a_read_may_be_left_half_way_and_gone_on_with(site, open_audience):
    site.fill(12_000)
    audience = open_audience(site.url, pool_size=1)
    async with audience.ids(NOW, None) as blocks:
        first = list(await anext(blocks))
    rest = await ids(audience, first[-1])  # the only connection is whole again
    assert [*first, *rest] == list(range(1, 12_001))


async def test_several_pulls_at_once_share_a_small_pool(site, open_audience):
    site.fill(300)
    audience = open_audience(site.url, pool_size=2)
    pulls = await asyncio.gather(*(audience.pull(NOW, at, at + 9) for at in range(1, 301, 10)))
    assert [one for one, _ in itertools.chain(*pulls)] == list(range(1, 301))


@pytest.mark.parametrize("query", ["SELECT id, openid FROM no_such_table", "SELECT openid FROM tp_receiver"])
async def test_a_query_that_does_not_work_is_said_in_words(site, open_audience, query):
    site.fill(1)
    with pytest.raises(AudienceUnavailableError, match=r"no_such_table|id") as error:
        await open_audience(site.url, query=query).pull(NOW, 1, 9)
    assert PASSWORD not in str(error.value)


async def test_an_id_that_is_no_number_is_said_in_words(site, open_audience):
    site.fill(1)
    audience = open_audience(site.url, query="SELECT openid AS id, openid FROM tp_receiver")
    with pytest.raises(AudienceUnavailableError, match="no whole number"):
        await ids(audience)


# -- a database that is away -------------------------------------------------------------------------------


async def everything_fails(audience):
    for call in (lambda: ids(audience), lambda: ids(audience, 5), lambda: audience.pull(NOW, 1, 9),
                 lambda: audience.page(NOW, 0, 500), lambda: audience.count(NOW)):  # fmt: skip
        with pytest.raises(AudienceUnavailableError) as error:
            await call()
        assert PASSWORD not in str(error.value)
        assert "SELECT" not in str(error.value)
        assert str(error.value)


async def test_nobody_listens(open_audience):
    await everything_fails(open_audience(f"mysql://site:{PASSWORD}@127.0.0.1:{free_port()}/site"))


async def test_a_wrong_password(mariadb, open_audience):
    await everything_fails(open_audience(mariadb.url.replace(PASSWORD, PASSWORD + "x")))


async def test_a_missing_file_is_not_made(tmp_path, open_audience):
    await everything_fails(open_audience(f"sqlite:///{tmp_path}/missing.db"))
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.parametrize("folder", ["with space", "100%", "a#b"])
async def test_a_file_in_an_oddly_named_folder(tmp_path, open_audience, folder):
    (tmp_path / folder).mkdir()
    sqlite_site(tmp_path / folder / "site.db", 3)
    assert await ids(open_audience(f"sqlite:///{tmp_path}/{folder}/site.db")) == [1, 2, 3]


async def test_reads_that_are_given_up_leave_no_lock_in_a_file(tmp_path, open_audience):
    """Whatever holds on to what they had, as a traceback does: the site itself must be able to write."""
    path = tmp_path / "site.db"
    sqlite_site(path, 500)
    gc.collect()
    gc.disable()  # a daemon looks for garbage rarely
    try:
        for number in range(60):
            reading = asyncio.create_task(ids(open_audience(f"sqlite:///{path}")))
            await asyncio.sleep(number / 10_000)  # so that it is cut off anywhere
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as site:
            site.execute("BEGIN EXCLUSIVE")  # raises while somebody reads
            assert site.in_transaction
    finally:
        gc.enable()


async def test_a_server_that_hangs_is_given_up(open_audience):
    over = asyncio.Event()

    async def hang(reader, writer):
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    audience = open_audience(f"mysql://site:{PASSWORD}@127.0.0.1:{port}/site", query_timeout_s=0.1)
    await everything_fails(audience)
    over.set()
    server.close()


async def test_a_slow_query_is_given_up_and_the_next_one_served(mariadb, open_audience):
    mariadb_site(mariadb, 3)
    slow = "SELECT id, openid FROM tp_receiver WHERE id = 2 AND SLEEP(1) = 0"
    audience = open_audience(mariadb.url, query=slow, query_timeout_s=0.2)
    with pytest.raises(AudienceUnavailableError, match=r"does not answer within 0\.2 s"):
        await audience.count(NOW)
    assert await ids(open_audience(mariadb.url)) == [2, 4, 6]


@pytest.fixture
def durable_mariadb(mariadb):
    """The test bed's server trades the last second for speed; here it is killed."""
    mariadb.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1;")
    return mariadb


@pytest.mark.parametrize("kill", [False, True])
async def test_the_pool_reconnects_by_itself(durable_mariadb, open_audience, kill):
    mariadb = durable_mariadb
    mariadb_site(mariadb, 3)
    audience = open_audience(mariadb.url)
    assert await ids(audience) == [2, 4, 6]
    await asyncio.to_thread(mariadb.stop, kill=kill)
    try:
        await everything_fails(audience)
    finally:
        await asyncio.to_thread(mariadb.start)
    assert [one for one, _ in await audience.pull(NOW, 1, 9)] == [2, 4, 6]


async def test_a_server_restarted_between_two_calls_is_not_noticed(mariadb, open_audience):
    mariadb_site(mariadb, 3)
    audience = open_audience(mariadb.url)
    assert await audience.count(NOW) == 3
    await asyncio.to_thread(mariadb.stop)
    await asyncio.to_thread(mariadb.start)
    assert await audience.count(NOW) == 3


async def test_a_connection_cut_in_the_middle_of_a_read(mariadb, open_audience):
    mariadb_site(mariadb, 50_000)
    seen = []
    with database_proxy(mariadb) as proxy:
        audience = open_audience(through(proxy, mariadb))

        async def read():
            async with audience.ids(NOW, None) as blocks:
                async for block in blocks:
                    seen.extend(block)

        await audience.count(NOW)
        proxy.break_answers(200_000, "cut")
        with pytest.raises(AudienceUnavailableError):
            await read()
        assert seen
        assert seen == list(range(2, 2 * len(seen) + 2, 2))  # what was yielded stands
        assert len([*seen, *await ids(audience, seen[-1])]) == 50_000
