"""stable_token over real HTTP: what is asked, when, what each refusal becomes. Time is the test's."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from bed.endpoint import counting_endpoint
from bed.fakes import FakeClock
from bed.platform import APP_ID, APP_SECRET, STABLE, Platform, refusal
from bed.ports import free_port
from structlog.testing import capture_logs

from broadcastd.channels.token_api import DAY_S, TRIAL_S, ApiTokenSource
from broadcastd.channels.wechat import WechatApi
from broadcastd.errcodes import in_words
from broadcastd.errors import TokenUnavailableError
from broadcastd.settings import AccountSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES
from broadcastd.transports import open_transport


@asynccontextmanager
async def source(url, clock, connections=60):
    settings = AccountSettings.model_validate(
        {"audience": {"url": "sqlite:///none.db"}, "channels": ["custom"], "api_base": url, "app_id": APP_ID,
         "app_secret": APP_SECRET, "token": {"source": "api"}}
    )  # fmt: skip
    api = WechatApi(settings.api_base, open_transport(settings.http, connections))
    try:
        yield ApiTokenSource(api, settings, "shop", clock)
    finally:
        await api.close()


class Scene:
    """A source, the platform that it asks, and their clock."""

    def __init__(self, endpoint, platform, clock, tokens):
        self.endpoint, self.platform, self.clock, self.tokens = endpoint, platform, clock, tokens

    async def refused(self):
        with pytest.raises(TokenUnavailableError) as error:
            await self.tokens.token()
        assert APP_SECRET not in str(error.value)
        return error.value

    async def doubt(self):
        """WeChat refuses the present token, twice, as a sender sees it; whether one came the second time."""
        self.tokens.discard(await self.tokens.token())
        await self.tokens.token()
        self.clock.advance(TRIAL_S)
        self.tokens.discard(await self.tokens.token())


@pytest.fixture
async def scene():
    platform, clock = Platform(), FakeClock()
    with counting_endpoint() as endpoint:
        endpoint.answer = platform.answer
        async with source(endpoint.url, clock) as tokens:
            yield Scene(endpoint, platform, clock, tokens)


@asynccontextmanager
async def answering(answer):
    """A source whose platform answers so; it and the calls."""
    calls = []

    async def handle(request):
        calls.append((request.method, request.path_qs, await request.read()))
        return answer()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server, source(f"http://127.0.0.1:{server.port}", FakeClock()) as tokens:
        yield tokens, calls


async def why(answer):
    """What the source says of such an answer, and how long it waits."""
    async with answering(answer) as (tokens, calls):
        with pytest.raises(TokenUnavailableError) as error:
            await tokens.token()
    assert len(calls) == 1
    assert APP_SECRET not in str(error.value)
    return str(error.value), error.value.retry_in_s


# -- what is asked -----------------------------------------------------------------------------------------


async def test_it_asks_for_the_stable_one_and_does_not_force(scene):
    assert await scene.tokens.token() == "stable-token-1"
    assert scene.platform.bodies == [
        {"grant_type": "client_credential", "appid": APP_ID, "secret": APP_SECRET, "force_refresh": False}
    ]


async def test_the_secret_is_in_the_body_and_nowhere_else():
    granted = web.json_response
    async with answering(lambda: granted({"access_token": "t", "expires_in": 7200})) as (tokens, calls):
        assert await tokens.token() == "t"
    ((method, path, body),) = calls
    assert (method, path) == ("POST", STABLE)
    assert APP_SECRET.encode() in body
    assert APP_SECRET not in repr(vars(tokens))


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errcode", "pause_s", "hint"),
    [
        (40001, 60, "the app_secret is wrong"),
        *((code, 60, "check app_id and app_secret") for code in (40002, 40013, 40125, 41002, 41004)),
        (40164, 60, "IP whitelist"),
        (61004, 60, "IP whitelist"),
        (45035, 60, "IP whitelist"),
        (40243, 60, "frozen"),
        *((code, 60, "administrator must confirm") for code in range(89501, 89506)),
        (89507, 3600, "again in 1 h"),
        (89506, 86_400, "again in 24 h"),
        (45009, 60, ""),
        (45011, 60, ""),
        (-1, 5, ""),
        (50002, 5, ""),
        (12345, 5, ""),
    ],
)
async def test_each_refusal_is_told_in_words_and_waited_for(errcode, pause_s, hint):
    words, retry_in_s = await why(lambda: web.Response(body=refusal(errcode, "<script>")))
    assert words.startswith(f"WeChat gives no access token: {in_words(errcode)}")
    assert hint in words
    assert "script" not in words
    assert retry_in_s == pause_s


async def test_the_ip_to_put_on_the_whitelist_is_named():
    errmsg = "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist"
    words, _ = await why(lambda: web.Response(body=refusal(40164, errmsg)))
    assert "put 1.2.3.4 on the IP whitelist" in words
    for errmsg in ("invalid ip 1.2.3", "invalid ip 12:34:", "", "invalid ip {app_secret}"):
        words, _ = await why(lambda errmsg=errmsg: web.Response(body=refusal(40164, errmsg)))
        assert "put this server's IP on the IP whitelist" in words


@pytest.mark.parametrize("status", [500, 502, 503, 412, 404, 201])
async def test_other_statuses(status):
    words, retry_in_s = await why(lambda: web.Response(status=status, body=b'{"access_token":"t"}'))
    assert words == f"WeChat gives no access token: HTTP {status}"
    assert retry_in_s == 5


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_the_secret_would_go_with_it(status):
    words, _ = await why(lambda: web.Response(status=status, headers={"Location": "/elsewhere"}))
    assert words == f"WeChat gives no access token: HTTP {status}"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b"{}", b'{"errcode":0}', b'{"errcode":"x"}', b'{"errcode":[1]}', b"\xff",
     b'{"access_token":"t"}', b'{"access_token":"","expires_in":7200}', b'{"access_token":7,"expires_in":72}',
     b'{"access_token":"t","expires_in":"soon"}', b'{"access_token":"t","expires_in":0}',
     b'{"access_token":"t","expires_in":-1}', b'{"access_token":"t","expires_in":1e300}',
     b'{"access_token":"t t\\n","expires_in":7200}', '{"access_token":"信","expires_in":7200}'.encode(),
     b'{"access_token":"t","expires_in":7200', b'{"errcode":1e999}'],
)  # fmt: skip
async def test_garbage(body):
    words, retry_in_s = await why(lambda: web.Response(body=body))
    assert words.startswith("WeChat gives no access token: a")
    assert retry_in_s == 5


async def test_a_huge_answer_is_not_read():
    words, _ = await why(lambda: web.Response(body=b'{"access_token":"' + b"x" * MAX_ANSWER_BYTES + b'"}'))
    assert words == "WeChat gives no access token: an answer far too long for WeChat"


async def test_nobody_listens():
    async with source(f"http://127.0.0.1:{free_port()}", FakeClock()) as tokens:
        with pytest.raises(TokenUnavailableError, match="WeChat gives no access token: no connection"):
            await tokens.token()


# -- ahead of its end --------------------------------------------------------------------------------------


async def kept(scene, reached):
    """`keep` at work, its sleeping moving the clock, until `reached` is true when it is about to sleep."""
    sleep, there = scene.clock.sleep, asyncio.Event()

    async def look_then_sleep(delay_s):
        if reached():
            there.set()
            await asyncio.Future()
        await sleep(delay_s)

    scene.clock.sleep = look_then_sleep
    keeping = asyncio.create_task(scene.tokens.keep())
    await asyncio.wait([keeping, arriving := asyncio.create_task(there.wait())], timeout=30,
                       return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
    assert there.is_set(), keeping
    keeping.cancel()
    await asyncio.wait([keeping, arriving])
    scene.clock.sleep = sleep


async def test_it_is_fetched_at_the_start_and_renewed_in_its_last_five_minutes(scene):
    start_s = scene.clock.monotonic_s()
    asked_at_s = []

    def renewing(path, body):
        asked_at_s.append(round(scene.clock.monotonic_s() - start_s))
        if scene.clock.monotonic_s() - start_s >= 6950 and scene.platform.number == 1:
            scene.platform.expire()  # the platform renews it a little later than it may
        return scene.platform.answer(path, body)

    scene.endpoint.answer = renewing
    await kept(scene, lambda: len(asked_at_s) == 6)
    assert asked_at_s[0] == 0
    # Not before 6900, then every 20 s until the new one is there, then not for 6900 s.
    assert asked_at_s[1:] == [6900, 6920, 6940, 6960, 6960 + 6900]
    # No send had to wait for any of it.
    assert await scene.tokens.token() == "stable-token-2"


async def test_the_old_one_serves_while_the_new_one_is_fetched(scene):
    assert await scene.tokens.token() == "stable-token-1"
    scene.endpoint.latency_s = 0.2
    scene.clock.advance(6900)
    scene.platform.expire()
    keeping = asyncio.create_task(scene.tokens.keep())
    while scene.platform.asked < 2:
        assert await asyncio.wait_for(scene.tokens.token(), 0.1) == "stable-token-1"
        await asyncio.sleep(0.001)
    assert await asyncio.wait_for(scene.tokens.token(), 0.1) == "stable-token-1"
    scene.clock.sleep = AsyncMock(side_effect=asyncio.CancelledError)
    await asyncio.wait([keeping], timeout=30)
    assert await scene.tokens.token() == "stable-token-2"


async def test_a_renewal_that_fails_is_no_trouble_while_the_old_one_serves(scene):
    await scene.tokens.token()
    scene.platform.refuses_token = 40164
    with capture_logs() as lines:
        await kept(scene, lambda: len(lines) >= 3)
    assert {line["event"] for line in lines} == {"token_not_renewed"}
    assert await scene.tokens.token() == "stable-token-1"
    assert scene.tokens.trouble == ""
    # When it is stale all the same, the reason is known without another call.
    asked = scene.platform.asked
    scene.tokens.discard("stable-token-1")
    assert "40164" in str(await scene.refused())
    assert "40164" in scene.tokens.trouble
    assert scene.platform.asked == asked
    scene.platform.refuses_token = 0
    await kept(scene, lambda: scene.platform.asked > asked)
    assert await scene.tokens.token() == "stable-token-1"


async def test_nobody_asks_ahead_what_a_send_has_just_fetched(scene):
    scene.endpoint.latency_s = 0.05
    keeping = asyncio.create_task(scene.tokens.keep())
    assert await asyncio.gather(*(scene.tokens.token() for _ in range(60))) == ["stable-token-1"] * 60
    keeping.cancel()
    assert scene.platform.asked == 1


@pytest.mark.parametrize("expires_in_s", [1, 10, 290])
async def test_lives_shorter_than_the_platforms_are_renewed_half_way(scene, expires_in_s):
    scene.platform.expires_in_s = expires_in_s
    start_s = scene.clock.monotonic_s()
    await kept(scene, lambda: scene.platform.asked == 2)
    assert scene.clock.monotonic_s() - start_s >= expires_in_s / 2
    assert scene.clock.monotonic_s() - start_s < expires_in_s


# -- the platform stands by a token that WeChat refuses ----------------------------------------------------


async def test_refused_once_by_mistake_it_goes_on_and_nothing_is_forced(scene):
    token = await scene.tokens.token()
    scene.tokens.discard(token)
    assert await scene.tokens.token() == token
    for _ in range(60):  # calls that were under way
        scene.tokens.discard(token)
    assert await scene.tokens.token() == token
    assert (scene.platform.asked, scene.platform.forced) == (2, 0)


async def test_mistakes_hours_apart_force_nothing(scene):
    token = await scene.tokens.token()
    for _ in range(5):
        scene.clock.advance(3601)
        scene.tokens.discard(token)
        assert await scene.tokens.token() == token
    assert scene.platform.forced == 0


async def test_refused_again_a_refresh_is_forced_once_for_all(scene):
    await scene.doubt()
    assert set(await asyncio.gather(*(scene.tokens.token() for _ in range(60)))) == {"stable-token-2"}
    assert scene.platform.forced == 1
    assert [body["force_refresh"] for body in scene.platform.bodies] == [False, False, False, True]


async def test_forced_too_soon_again_it_waits_in_words(scene):
    await scene.doubt()
    await scene.tokens.token()
    await scene.doubt()
    error = await scene.refused()
    assert str(error) == (
        "WeChat refuses the access token that it gives out itself; a new one can be forced in 55 s"
    )
    assert scene.platform.forced == 1
    scene.clock.advance(error.retry_in_s)
    # It is tried again first: WeChat may be right again.
    assert await scene.tokens.token() == "stable-token-2"


async def test_a_force_that_gives_the_same_again_is_told(scene):
    scene.platform.forces = False
    await scene.doubt()
    assert "gives no other (20 forced refreshes a day are allowed)" in str(await scene.refused())
    assert scene.platform.forced == 1


async def test_refused_for_ever_it_stays_within_the_limits_of_force_refresh(scene):
    """For two days each token is refused at once: at most 20 in any 24 h, 30 s apart, and few calls."""
    forced_at_s, pauses_s, start_s, calls = [], [], scene.clock.monotonic_s(), 0
    while scene.clock.monotonic_s() < start_s + 2 * DAY_S:
        forced = scene.platform.forced
        try:
            token = await scene.tokens.token()
        except TokenUnavailableError as error:
            pauses_s.append(error.retry_in_s)
            scene.clock.advance(max(1, error.retry_in_s))
        else:
            calls += 1
            scene.tokens.discard(token)
            scene.clock.advance(5)  # the sender's own pause after a token that was refused twice
        if scene.platform.forced > forced:
            forced_at_s.append(scene.clock.monotonic_s())
    assert all(later - earlier >= 30 for earlier, later in itertools.pairwise(forced_at_s))
    most = max(sum(at_s <= one < at_s + DAY_S for one in forced_at_s) for at_s in forced_at_s)
    assert 10 < most <= 20
    assert max(pauses_s) <= 300
    assert calls < 2000  # each would be tried by every task: they must be few
    assert scene.platform.asked < 5000


async def test_a_token_renewed_ahead_is_not_taken_for_the_one_that_was_refused(scene):
    """Refused once by mistake, in use for two hours since: it is not forced when its end comes near."""
    token = await scene.tokens.token()
    scene.tokens.discard(token)
    await scene.tokens.token()
    await kept(scene, lambda: scene.platform.asked >= 6)
    assert scene.platform.forced == 0
    assert await scene.tokens.token() == token


async def test_a_mistake_in_the_middle_of_its_life_does_not_bring_the_renewal_forward(scene):
    start_s = scene.clock.monotonic_s()
    token = await scene.tokens.token()
    scene.clock.advance(1000)
    scene.tokens.discard(token)
    await scene.tokens.token()
    await kept(scene, lambda: scene.platform.asked >= 3)
    assert scene.clock.monotonic_s() - start_s == pytest.approx(6900)
