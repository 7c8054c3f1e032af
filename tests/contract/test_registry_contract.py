"""The port `Registry`: the statements of followers' replies, in SQLite and MariaDB."""

import pytest
import sqlalchemy as sa
from bed.site import mariadb_site, openid, sqlite_site

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.registry import SqlRegistry
from broadcastd.callback_settings import AccountCallbackSettings
from broadcastd.errors import AudienceUnavailableError
from broadcastd.pushes import PushKind
from broadcastd.settings import AudienceSettings


@pytest.fixture(params=["sqlite", "mariadb"], autouse=True)
async def database(request, tmp_path):
    if request.param == "sqlite":
        url = sqlite_site(tmp_path / "site.db", 5)
    else:
        url = mariadb_site(request.getfixturevalue("mariadb"), 5)
    there = open_database(AudienceSettings(url=url), writable=True)
    yield there
    await there.close()


def registry(database, **settings):
    return SqlRegistry(database, AccountCallbackSettings(token="abc123", **settings))


async def receiving(database):
    """The openids that are sent to, by their number."""
    async with database.connection() as connection:
        query = sa.text("SELECT openid FROM tp_receiver WHERE receive_status = 1 ORDER BY id")
        return [int(row[0][1:]) for row in (await connection.execute(query)).all()]


async def test_a_follower_goes_and_comes(database):
    site = registry(database)
    for _ in range(2):
        await site.note(PushKind.OPT_OUT, openid(2))
        assert await receiving(database) == [1, 3, 4, 5]
    await site.note(PushKind.UNSUBSCRIBE, openid(4))
    await site.note(PushKind.OPT_IN, openid(2))
    assert await receiving(database) == [1, 2, 3, 5]


async def test_an_openid_is_a_value_and_never_sql(database):
    await registry(database).note(PushKind.OPT_OUT, "x' OR '1'='1")
    await registry(database).note(PushKind.OPT_OUT, ":openid")
    assert await receiving(database) == [1, 2, 3, 4, 5]


async def test_a_kind_without_a_statement_is_nothing(database):
    site = registry(database, opt_out_sql="")
    assert set(site.kinds) == {PushKind.OPT_IN, PushKind.UNSUBSCRIBE}
    await site.note(PushKind.OPT_OUT, openid(2))
    await site.note(PushKind.SUBSCRIBE, openid(2))
    assert await receiving(database) == [1, 2, 3, 4, 5]


async def test_a_colon_in_the_sites_own_text_is_no_parameter(database):
    site = registry(
        database,
        opt_out_sql="UPDATE tp_receiver SET receive_status = 0 WHERE openid = :openid AND '1:00' = '1:00'",
    )
    await site.note(PushKind.OPT_OUT, openid(1))
    assert await receiving(database) == [2, 3, 4, 5]


async def test_a_statement_that_cannot_run_says_why(database):
    site = registry(database, opt_out_sql="UPDATE no_such_table SET a = 1 WHERE openid = :openid")
    with pytest.raises(AudienceUnavailableError, match="no_such_table"):
        await site.note(PushKind.OPT_OUT, openid(1))
