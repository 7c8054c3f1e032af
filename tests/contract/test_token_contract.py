"""One suite for the port `TokenSource`: the site's table (SQLite, MariaDB), stable_token, the fake."""

import asyncio
import sqlite3
from contextlib import closing, suppress

import pytest
from bed.endpoint import counting_endpoint
from bed.fakes import FakeClock
from bed.platform import Platform
from bed.site import mariadb_site, sqlite_site
from bed.token_origins import ApiOrigin, CountedDatabase, FakeOrigin, TableOrigin, settings

from broadcastd.audiences.engine import open_database
from broadcastd.channels.wechat import WechatApi
from broadcastd.errors import TokenUnavailableError
from broadcastd.token_sources import TOKEN_SOURCES, AccountParts
from broadcastd.transports import open_transport

REAL = ("table-sqlite", "table-mariadb", "api")


@pytest.fixture
async def open_origin(tmp_path, request):
    closings = []

    def open_table(url, run):
        account = settings(url)
        database = open_database(account.audience)
        closings.append(database.close)
        return TableOrigin(run, AccountParts("shop", account, CountedDatabase(database), None, FakeClock()))

    def make(kind):
        if kind == "fake":
            return FakeOrigin(FakeClock())
        if kind == "table-mariadb":
            server = request.getfixturevalue("mariadb")
            return open_table(mariadb_site(server, 1), lambda sql: server.run(sql + ";"))
        if kind == "table-sqlite":
            path = tmp_path / "site.db"
            return open_table(sqlite_site(path, 1), lambda sql: run_in(path, sql))
        account = settings("sqlite:///none.db", request.getfixturevalue("endpoint").url)
        api = WechatApi(account.api_base, open_transport(account.http, 60))
        closings.append(api.close)
        platform = Platform()
        request.getfixturevalue("endpoint").answer = platform.answer
        return ApiOrigin(platform, AccountParts("shop", account, None, api, FakeClock()))

    yield make
    for close in closings:
        await close()


def run_in(path, sql):
    with closing(sqlite3.connect(path)) as site:
        site.execute(sql)
        site.commit()


@pytest.fixture
def endpoint():
    with counting_endpoint() as endpoint:
        yield endpoint


@pytest.fixture(params=[*REAL, "fake"])
async def origin(request, open_origin):
    return open_origin(request.param)


@pytest.fixture(params=REAL)
async def real(request, open_origin):
    return open_origin(request.param)


async def refused(tokens):
    with pytest.raises(TokenUnavailableError) as error:
        await tokens.token()
    return error.value


async def at_once(many, ask):
    return await asyncio.gather(*(ask() for _ in range(many)))


# -- every implementation ----------------------------------------------------------------------------------


async def test_it_is_fetched_once_for_all(origin):
    first, *others = await at_once(60, origin.tokens.token)
    assert first
    assert set(others) == {first} == set(await at_once(3, origin.tokens.token))
    assert origin.asked == 1
    assert origin.tokens.trouble == ""


async def test_after_a_discard_it_is_fetched_once_for_all(origin):
    old = await origin.tokens.token()
    origin.renew()
    for _ in range(60):
        origin.tokens.discard(old)
    new, *others = await at_once(60, origin.tokens.token)
    assert new != old
    assert set(others) == {new}
    assert origin.asked == 2


async def test_the_present_one_is_told_without_a_call(origin):
    token = await origin.tokens.token()
    assert origin.tokens.present == token
    origin.renew()
    origin.tokens.discard(token)
    assert origin.tokens.present != token
    assert await origin.tokens.token() == origin.tokens.present
    assert origin.asked == 2


async def test_only_the_present_one_is_discarded(origin):
    old = await origin.tokens.token()
    origin.renew()
    origin.tokens.discard("another")
    assert await origin.tokens.token() == old
    origin.tokens.discard(old)
    new = await origin.tokens.token()
    origin.tokens.discard(old)  # a late answer to a call that was made with the former one
    assert await origin.tokens.token() == new
    assert origin.asked == 2


async def test_without_one_it_says_why_and_for_how_long(origin):
    origin.break_down()
    error = await refused(origin.tokens)
    assert error.retry_in_s > 0
    assert str(error) == origin.tokens.trouble != ""
    origin.mend()
    origin.until_due()
    assert await origin.tokens.token()
    assert origin.tokens.trouble == ""


async def test_an_operator_need_not_wait_for_the_end_of_the_pause(origin):
    origin.break_down()
    await refused(origin.tokens)
    origin.mend()
    origin.tokens.ask_again()
    assert await origin.tokens.token()


# -- both real ones ----------------------------------------------------------------------------------------


async def test_a_failure_is_everybodys_until_its_pause_is_over(real):
    real.break_down()
    errors = await at_once(60, lambda: refused(real.tokens))
    pause_s = errors[0].retry_in_s
    assert {one.retry_in_s for one in errors} == {pause_s}
    real.mend()
    real.clock.advance(pause_s - 1)
    assert (await refused(real.tokens)).retry_in_s == pytest.approx(1)
    assert real.asked == 1
    real.clock.advance(1)
    assert await real.tokens.token()
    assert real.asked == 2


async def test_pauses_grow_to_a_bound_and_begin_anew_after_a_success(real):
    real.break_down()
    pauses_s = []
    for _ in range(8):
        pauses_s.append((await refused(real.tokens)).retry_in_s)
        real.clock.advance(pauses_s[-1])
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[0] < pauses_s[1]
    assert pauses_s[-2] == pauses_s[-1] <= 600
    real.mend()
    old = await real.tokens.token()
    real.renew()
    real.break_down()
    real.clock.advance(7200)
    real.tokens.discard(old)
    assert (await refused(real.tokens)).retry_in_s == pytest.approx(pauses_s[0])


async def test_neither_a_secret_nor_a_token_is_in_what_it_says(real, capsys):
    token = await real.tokens.token()
    real.break_down()
    real.tokens.discard(token)
    error = await refused(real.tokens)
    logged = capsys.readouterr()  # on either, as the log was set up before, or not at all
    said = str(error) + repr(error) + logged.out + logged.err
    assert "token_unavailable" in said
    assert not [one for one in (*real.secrets, token) if one in said]


async def test_thirty_ends_in_a_storm_cost_nobody_and_one_fetch_each(real):
    """60 tasks that send all the time, with calls still under way whenever a token ends."""
    left, sent, ends = 6000, 0, 0
    every = left // 31
    valid = {await real.tokens.token()}

    async def send(token):
        nonlocal sent, ends
        await asyncio.sleep(0)  # the call is under way
        if token not in valid:
            return False
        sent += 1
        if sent % every == 0 and ends < 30:
            ends += 1
            valid.clear()
            real.renew()
        return True

    async def task():
        nonlocal left
        while left:
            left -= 1
            while True:
                token = await real.tokens.token()
                if await send(token):
                    break
                real.tokens.discard(token)
                valid.add(await real.tokens.token())

    await at_once(60, task)
    assert (sent, ends) == (6000, 30)
    assert real.asked == 31


async def test_who_waits_goes_on_at_once_not_one_after_the_other(real):
    """The last of 60 would send with a token that has ended meanwhile."""
    turn, woken_at = 0, []

    async def count_turns():
        nonlocal turn
        while len(woken_at) < 60:
            turn += 1
            await asyncio.sleep(0)

    async def wait():
        await real.tokens.token()
        woken_at.append(turn)

    counting = asyncio.create_task(count_turns())
    await at_once(60, wait)
    await counting
    assert max(woken_at) - min(woken_at) <= 2


async def test_when_who_fetches_is_cancelled_one_of_those_who_wait_fetches(real):
    asking, *waiting = (asyncio.create_task(real.tokens.token()) for _ in range(60))
    await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert len(set(await asyncio.wait_for(asyncio.gather(*waiting), 30))) == 1
    assert real.asked <= 2


async def test_when_one_who_waits_is_cancelled_the_others_are_not(real):
    asking, waiting, *others = (asyncio.create_task(real.tokens.token()) for _ in range(60))
    await asyncio.sleep(0)
    waiting.cancel()
    assert len(set(await asyncio.wait_for(asyncio.gather(asking, *others), 30))) == 1
    assert waiting.cancelled()
    assert real.asked == 1


# -- the table ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["table-sqlite", "table-mariadb"])
async def table(request, open_origin):
    return open_origin(request.param)


async def test_the_site_keeps_its_table_fresh(table):
    await table.tokens.keep()
    assert table.asked == 0


async def test_a_new_token_in_the_table_is_not_looked_for_while_the_old_one_serves(table):
    """The old one serves for 5 minutes more: nothing is lost by not knowing of the new one."""
    old = await table.tokens.token()
    table.renew()
    table.clock.advance(7200)
    assert await table.tokens.token() == old
    assert table.asked == 1


async def test_a_site_that_is_late_is_waited_for_with_growing_pauses(table):
    old = await table.tokens.token()
    reads, pauses_s = table.asked, []
    for _ in range(6):
        table.tokens.discard(old)
        errors = await at_once(60, lambda: refused(table.tokens))
        assert "the site's table still holds the token that WeChat calls stale" in str(errors[0])
        assert old not in str(errors[0])
        pauses_s.append(errors[0].retry_in_s)
        table.clock.advance(pauses_s[-1])
        # WeChat may have been wrong about it: a good token must not stay refused until the site changes it.
        assert await table.tokens.token() == old
    assert pauses_s == [5, 10, 20, 30, 30, 30]
    assert table.asked == reads + 12
    table.renew()
    table.tokens.discard(old)
    assert await table.tokens.token() != old


async def test_mistakes_of_wechats_that_are_far_apart_cost_a_short_pause_each(table):
    token = await table.tokens.token()
    for _ in range(4):
        table.tokens.discard(token)
        assert (await refused(table.tokens)).retry_in_s == 5
        table.clock.advance(5)
        assert await table.tokens.token() == token
        table.clock.advance(60)  # it serves


@pytest.mark.parametrize("sql", ["DELETE FROM tp_accesstoken", "UPDATE tp_accesstoken SET accesstoken = ''"])
async def test_no_token_at_all(table, sql):
    table._run(sql)
    assert "holds no access token" in str(await refused(table.tokens))


async def test_no_table_at_all(table):
    table._run("DROP TABLE tp_accesstoken")
    said = str(await refused(table.tokens))
    assert said.startswith("the access token cannot be read: ")
    assert "tp_accesstoken" in said


# -- a look ahead ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*REAL, "fake"])
async def test_a_look_finds_nothing_wrong_or_raises_as_token_does(open_origin, kind):
    origin = open_origin(kind)
    assert await origin.tokens.look() == ""
    asked = origin.asked
    assert await origin.tokens.look() == ""
    assert origin.asked == asked


@pytest.mark.parametrize("kind", ["table-sqlite", "table-mariadb"])
async def test_a_table_that_nobody_refreshes_is_seen(open_origin, kind):
    origin = open_origin(kind)
    origin.tokens._lives_s = 7200
    for _ in range(130):
        assert await origin.tokens.look() == ""
        origin.clock.advance(60)
    origin.clock.advance(60)
    assert "the same access token for 2.2 h" in await origin.tokens.look()
    origin.renew()
    assert await origin.tokens.look() == ""
    origin.break_down()
    assert await origin.tokens.look() == "the site's table holds no access token"


@pytest.mark.parametrize(
    ("base", "known"), [("https://api.weixin.qq.com", True), ("https://gate.example.com", False)]
)
def test_only_of_wechat_itself_is_known_how_long_its_tokens_live(base, known):
    account = settings("sqlite:///none.db", base)
    tokens = TOKEN_SOURCES["table"](AccountParts("shop", account, None, None, FakeClock()))
    assert (tokens._lives_s == 7200) is known
