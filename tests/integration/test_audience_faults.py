"""Queries that end badly, over real connections: no later query may meet what is left of an earlier one."""

import asyncio
import random
import time
from datetime import UTC, datetime

import pytest
from bed.fakes import FakeClock
from bed.mariadb import USER
from bed.ports import eventually
from bed.proxy import database_proxy, through
from bed.site import mariadb_site, openid

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.sql import SqlAudience
from broadcastd.audiences.token_table import TableTokenSource
from broadcastd.errors import AudienceUnavailableError, TokenUnavailableError
from broadcastd.settings import DEFAULT_TOKEN_QUERY, AccountSettings

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
FOLLOWERS = 20_000
QUERY_TIMEOUT_S = 0.4


@pytest.fixture(scope="module")
def site(mariadb):
    mariadb_site(mariadb, FOLLOWERS)
    mariadb.run("UPDATE tp_receiver SET id = id / 2 ORDER BY id;")
    return mariadb


@pytest.fixture
def proxy(site):
    with database_proxy(site) as proxy:
        yield proxy


@pytest.fixture
def settings(site, proxy):
    audience = {
        "url": through(proxy, site),
        "pool_size": 5,
        "query_timeout_s": QUERY_TIMEOUT_S,
        "connect_timeout_s": QUERY_TIMEOUT_S,
    }
    return AccountSettings.model_validate({"audience": audience, "template": {"template_id": "T1"}})


@pytest.fixture
async def database(settings):
    database = open_database(settings.audience)
    yield database
    await database.close()


@pytest.fixture
def audience(database, settings):
    return SqlAudience(database, settings)


async def read(audience, after=None, into=None):
    """All ids above `after`. With `into`, what was yielded stands there even if the read fails."""
    seen = [] if into is None else into
    async with audience.ids(NOW, after) as blocks:
        async for block in blocks:
            seen += block
    return seen


def rows(first, last):
    return [(one, openid(one)) for one in range(first, last + 1)]


async def pull(audience, first, last):
    """What a pull yields must be its own rows; None when the database could not be read."""
    try:
        found = await audience.pull(NOW, first, last)
    except AudienceUnavailableError:
        return None
    assert [tuple(row) for row in found] == rows(first, last)
    return found


async def pulls(audience, many=20):
    """Pulls of different slices at once; how many were answered."""
    slices = random.sample(range(FOLLOWERS // 500), many)
    found = await asyncio.gather(*(pull(audience, one * 500 + 1, one * 500 + 500) for one in slices))
    return sum(one is not None for one in found)


async def eventually_all(audience):
    for _ in range(20):
        if await pulls(audience) == 20:
            return
    raise AssertionError("the database is well, and pulls still fail")


async def fill_pool(audience):
    await eventually_all(audience)


async def test_late_answers_never_reach_another_query(audience, proxy):
    await fill_pool(audience)
    answered = []
    for delay_s in (0.5, 0.39, 0.41, 0.1, 0.6, 0.2, 0.395, 0.405):
        proxy.delay_s = delay_s
        answered.append(await pulls(audience))
    assert 0 in answered
    proxy.delay_s = 0
    await eventually_all(audience)


@pytest.mark.parametrize("how", ["cut", "hang"])
@pytest.mark.parametrize("after_bytes", [1, 4, 5, 60, 1_000, 17_000])
async def test_half_an_answer_is_none_and_spoils_no_other(audience, proxy, how, after_bytes):
    await fill_pool(audience)
    proxy.break_answers(after_bytes, how, times=7)
    for _ in range(3):
        await pulls(audience)
    assert proxy.broken == 7
    await eventually_all(audience)


async def test_connections_cut_while_idle_are_not_noticed(settings, proxy):
    patient = settings.audience.model_copy(update={"query_timeout_s": 20})
    database = open_database(patient)
    audience = SqlAudience(database, settings.model_copy(update={"audience": patient}))
    await fill_pool(audience)
    proxy.cut()
    assert await pulls(audience) == 20
    await database.close()


async def test_connections_cut_under_their_queries(audience, proxy):
    await fill_pool(audience)
    for _ in range(3):
        asked_before = proxy.requests
        proxy.delay_s = 0.1
        under_way = asyncio.create_task(pulls(audience))
        await asyncio.to_thread(eventually, lambda before=asked_before: proxy.requests > before + 5)
        proxy.cut()
        await under_way
        proxy.delay_s = 0
        await eventually_all(audience)


async def test_idle_connections_that_lead_nowhere_cost_one_pause_not_one_each(audience, proxy):
    """The server's machine is gone without a word, another one has its address."""
    await fill_pool(audience)
    proxy.hang_open_ones()
    started = time.monotonic()
    while await pull(audience, 1, 500) is None:
        pass
    assert time.monotonic() - started < 4 * QUERY_TIMEOUT_S, "one each would be five"


async def test_a_database_that_stops_answering_leaves_no_slot_of_the_pool_behind(audience, proxy):
    """Wherever in a query it happens: five connections that hang must not be the end of all five."""
    for requests in range(1, 40, 2):
        before = proxy.requests
        under_way = asyncio.create_task(pulls(audience, 10))
        await asyncio.to_thread(
            eventually, lambda most=before + requests, it=under_way: proxy.requests >= most or it.done()
        )
        proxy.hang_open_ones()
        await under_way
    await eventually_all(audience)


async def test_a_read_that_hangs_half_way_stands_and_goes_on(audience, proxy):
    seen = []
    proxy.break_answers(100_000, "hang")
    with pytest.raises(AudienceUnavailableError, match=r"does not answer within 0\.4 s"):
        await read(audience, into=seen)
    assert seen
    assert seen == list(range(1, len(seen) + 1))
    assert [*seen, *await read(audience, seen[-1])] == list(range(1, FOLLOWERS + 1))


async def test_a_read_that_is_left_while_it_hangs_is_left_at_once(audience, proxy):
    proxy.break_answers(100_000, "hang")
    async with asyncio.timeout(10), audience.ids(NOW, None) as blocks:
        await anext(blocks)
        await asyncio.to_thread(eventually, lambda: proxy.broken == 1)
    await eventually_all(audience)


async def test_a_token_that_cannot_be_read_is_read_once_for_all_who_wait(database, proxy):
    clock = FakeClock()
    tokens = TableTokenSource(database, DEFAULT_TOKEN_QUERY, "default", clock)
    proxy.hang()
    started = time.monotonic()
    found = await asyncio.gather(*(tokens.token() for _ in range(60)), return_exceptions=True)
    assert all(isinstance(one, TokenUnavailableError) for one in found)
    assert time.monotonic() - started < 20 * QUERY_TIMEOUT_S, "one each would be sixty"
    assert {str(one) for one in found} == {
        "the access token cannot be read: the site's database does not answer within 0.4 s"
    }
    proxy.hang(on=False)
    clock.advance(5)
    assert await tokens.token() == "token-of-the-tests"


RUNNING = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%BENCHMARK%' AND user = "


async def running(site):
    return int(await asyncio.to_thread(site.run, f"{RUNNING}'{USER}'"))


async def test_a_query_that_is_given_up_is_ended_on_the_server_too(site, settings):
    """20,000 rows of some 10 ms each: left alone, it would keep the server busy for minutes."""
    heavy = "SELECT id, openid FROM tp_receiver WHERE BENCHMARK(20000, SHA2(id, 512)) = 0"
    audience_settings = settings.audience.model_copy(update={"query": heavy})
    database = open_database(audience_settings)
    audience = SqlAudience(database, settings.model_copy(update={"audience": audience_settings}))
    asked = asyncio.create_task(pull(audience, 1, FOLLOWERS))
    while not await running(site):
        assert not asked.done()
    assert await asked is None
    given_up = time.monotonic()
    while await running(site):
        assert time.monotonic() < given_up + 10
    await database.close()


async def test_the_server_bounds_a_query_but_not_the_planning_read(database, settings):
    """A million ids are read while slices are committed: each block must come in time, not the whole."""
    bound_ms = "SELECT CAST(@@max_statement_time * 1000 AS SIGNED) AS id, 'o' AS openid"
    asks = settings.audience.model_copy(update={"query": bound_ms})
    audience = SqlAudience(database, settings.model_copy(update={"audience": asks}))
    for _ in range(3):
        assert await audience.page(NOW, 0, 500) == [QUERY_TIMEOUT_S * 1000]
        assert await read(audience) == [0]
