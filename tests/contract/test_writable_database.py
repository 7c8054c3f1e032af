"""What is written to an account's database: each statement at once, or several together or not at all."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest
import sqlalchemy as sa
from bed.site import mariadb_site, sqlite_site

from broadcastd.audiences.engine import open_database
from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AudienceSettings

OPT_OUT = sa.text("UPDATE tp_receiver SET receive_status = 0 WHERE openid LIKE :openid")


class FellOverError(Exception):
    """In the middle of a change."""


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return sqlite_site(tmp_path / "site.db", 3)
    return mariadb_site(request.getfixturevalue("mariadb"), 3)


@pytest.fixture
async def make():
    """Opens databases, and closes them."""
    opened = []

    def open_one(url, *, writable=True, **more):
        opened.append(open_database(AudienceSettings(url=url, **more), writable=writable))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


async def out(database):
    """How many receive nothing, as another connection sees it."""
    async with database.connection() as connection:
        query = "SELECT count(*) FROM tp_receiver WHERE receive_status = 0"
        return (await connection.exec_driver_sql(query)).scalar_one()


async def test_a_statement_is_committed_by_itself(url, make):
    database, other = make(url), make(url)
    async with database.connection() as connection:
        done = await connection.execute(OPT_OUT, {"openid": "%1"})
        assert done.rowcount == 1
        assert await out(other) == 1
    assert await out(other) == 1


async def test_a_transaction_is_committed_whole(url, make):
    database, other = make(url), make(url)
    async with database.transaction() as connection:
        await connection.execute(OPT_OUT, {"openid": "%1"})
        await connection.execute(OPT_OUT, {"openid": "%2"})
        if database.engine.dialect.name == "mysql":
            assert await out(other) == 0
    assert await out(other) == 2


async def test_a_transaction_that_fails_leaves_nothing(url, make):
    database = make(url)
    with pytest.raises(AudienceUnavailableError, match="FellOver"):
        await _opt_out(database, "%1", FellOverError())
    assert await out(database) == 0
    async with database.transaction() as connection:  # and the lock is free
        await connection.execute(OPT_OUT, {"openid": "%3"})
    assert await out(database) == 1


async def test_sqlite_is_read_only_unless_asked(tmp_path, make):
    database = make(sqlite_site(tmp_path / "site.db", 3), writable=False)
    with pytest.raises(AudienceUnavailableError, match="readonly"):
        async with database.connection() as connection:
            await connection.execute(OPT_OUT, {"openid": "%1"})


async def test_writers_of_sqlite_wait_for_one_another(tmp_path, make):
    url = sqlite_site(tmp_path / "site.db", 3)
    database = make(url)
    with closing(
        sqlite3.connect(tmp_path / "site.db", isolation_level=None, check_same_thread=False)
    ) as site:
        site.execute("BEGIN IMMEDIATE")
        site.execute("UPDATE tp_receiver SET receive_status = 0 WHERE id = 3")
        waiting = asyncio.create_task(_opt_out(database, "%1"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        await asyncio.to_thread(site.execute, "COMMIT")
        await waiting
    assert await out(database) == 2


async def _opt_out(database, openid, error=None):
    async with database.transaction() as connection:
        await connection.execute(OPT_OUT, {"openid": openid})
        if error is not None:
            raise error
