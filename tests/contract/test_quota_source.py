"""`WechatQuotas` over real HTTP: what is asked, and what each answer becomes."""

import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from bed.platform import APP_ID, APP_SECRET, refusal
from bed.ports import free_port

from broadcastd.channels.quota import WechatQuotas
from broadcastd.channels.wechat import WechatApi
from broadcastd.model import Quota
from broadcastd.outcomes import Answer
from broadcastd.settings import AccountSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES
from broadcastd.transports import open_transport

PATH = "/cgi-bin/message/custom/send"
FIGURES = {"daily_limit": 1000, "used": 10, "remain": 990}


@asynccontextmanager
async def quotas(url, **settings):
    account = AccountSettings.model_validate(
        {"audience": {"url": "sqlite:///none.db"}, "channels": ["custom"], "api_base": url, **settings}
    )
    api = WechatApi(account.api_base, open_transport(account.http, 1))
    try:
        yield WechatQuotas(api, account)
    finally:
        await api.close()


@asynccontextmanager
async def answering(body, status=200, headers=None, **settings):
    """A source whose WeChat answers so, and the calls."""
    calls = []

    async def handle(request):
        calls.append((request.method, request.path_qs, json.loads(await request.read())))
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=raw, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server, quotas(f"http://127.0.0.1:{server.port}", **settings) as source:
        yield source, calls


async def got(body, **how):
    async with answering(body, **how) as (source, calls):
        found = await source.get(PATH, "the-token")
    assert len(calls) == 1
    assert "the-token" not in repr(found)
    return found


async def test_the_figures_of_a_path():
    body = {
        "errcode": 0,
        "errmsg": "ok",
        "quota": FIGURES,
        "rate_limit": {"call_count": 7, "refresh_second": 60},
    }
    async with answering(body) as (source, calls):
        assert await source.get(PATH, "the-token") == Quota(1000, 10, 990, 7, 60)
    assert calls == [("POST", "/cgi-bin/openapi/quota/get?access_token=the-token", {"cgi_path": PATH})]


async def test_figures_without_a_rate():
    assert await got({"errcode": 0, "quota": FIGURES}) == Quota(1000, 10, 990)


async def test_what_is_overdrawn_leaves_nothing():
    assert (await got({"errcode": 0, "quota": {**FIGURES, "remain": -3}})).left == 0


@pytest.mark.parametrize("errcode", [40001, 42001, 48001, 76021, 76022, -1, 45011])
async def test_refusals_are_values(errcode):
    assert (await got(refusal(errcode))).errcode == errcode


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"null", {"errcode": 0}, {"errcode": 0, "quota": None},
        {"errcode": 0, "quota": []},
        {"errcode": 0, "quota": {**FIGURES, "remain": "many"}}, {"quota": FIGURES}, {"errcode": "x"},
        {"errcode": 0, "quota": {**FIGURES, "remain": 2**70}}, {"errcode": 2**40},
        {"errcode": 0, "quota": FIGURES, "rate_limit": 3}, b"x" * (MAX_ANSWER_BYTES + 1),
    ],
)  # fmt: skip
async def test_what_is_no_answer_gives_no_figures(body):
    found = await got(body)
    assert isinstance(found, Answer)
    assert found.unanswered


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500, 502, 503])
async def test_other_statuses_give_no_figures_and_redirects_are_not_followed(status):
    found = await got({"errcode": 0, "quota": FIGURES}, status=status, headers={"Location": "/elsewhere"})
    assert not found.answered


async def test_nobody_there():
    async with quotas(f"http://127.0.0.1:{free_port()}") as source:
        assert (await source.get(PATH, "the-token")).refused.startswith("no connection")


async def test_a_reset_by_token():
    async with answering({"errcode": 0, "errmsg": "ok"}, app_id=APP_ID) as (source, calls):
        assert (source.has_app_id, source.has_secret) == (True, False)
        assert await source.clear("the-token") is None
    assert calls == [("POST", "/cgi-bin/clear_quota?access_token=the-token", {"appid": APP_ID})]


async def test_a_reset_by_secret_has_it_in_the_body_and_nowhere_else():
    both = {"app_id": APP_ID, "app_secret": APP_SECRET}
    async with answering({"errcode": 0, "errmsg": "ok"}, **both) as (source, calls):
        assert source.has_secret
        assert APP_SECRET not in repr(vars(source))
        assert await source.clear(None) is None
    assert calls == [("POST", "/cgi-bin/clear_quota/v2", {"appid": APP_ID, "appsecret": APP_SECRET})]


async def test_a_reset_that_is_refused():
    async with answering(refusal(48006), app_id=APP_ID) as (source, _):
        assert (await source.clear("the-token")).errcode == 48006


async def test_without_an_app_id_no_reset_is_possible():
    async with quotas("http://127.0.0.1:1") as source:
        assert (source.has_app_id, source.has_secret) == (False, False)
