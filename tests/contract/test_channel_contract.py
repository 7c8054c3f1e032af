"""One suite for the port `Channel`, against a real HTTP server that records raw bodies."""

import asyncio
from datetime import UTC, datetime
from urllib.parse import unquote_plus

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broadcastd.channels import CHANNELS
from broadcastd.channels.wechat import WechatApi
from broadcastd.model import Request
from broadcastd.outcomes import Answer
from broadcastd.ports import Rendered
from broadcastd.settings import AccountSettings, HttpSettings
from broadcastd.transports import open_transport

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
CONTENT = '收購 {二手} "iPhone" \\ \U0001f600\n'
PATHS = {
    "custom": "/cgi-bin/message/custom/send",
    "template": "/cgi-bin/message/template/send",
    "subscribe": "/cgi-bin/message/subscribe/bizsend",
    "mass": "/cgi-bin/message/mass/send",
}
TEXTS = ("custom", "mass")
ACCOUNT = {
    "audience": {"url": "sqlite:///none.db"},
    "custom": {"text": "{content}!", "max_text_bytes": 100},
    "mass": {"text": "{content}!", "max_text_bytes": 100},
    "template": {
        "template_id": "T1",
        "data": {"keyword1": "{content}", "keyword2": "{now}", "keyword3": "{phone}"},
    },
    "subscribe": {"template_id": "S1", "data": {"keyword1": "{content}", "time2": "{now}"}},
}


class Wechat:
    """A server that records each call and answers as it is told."""

    def __init__(self):
        self.calls = []
        self.answer = lambda: web.Response(body=b'{"errcode":0,"errmsg":"ok","msgid":1}')
        self.arrived = asyncio.Event()

    async def handle(self, request):
        self.calls.append((request.path_qs, await request.read(), request.headers))
        self.arrived.set()
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture
async def wechat():
    wechat = Wechat()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", wechat.handle)
    async with TestServer(app) as server:
        wechat.base = f"http://127.0.0.1:{server.port}"
        yield wechat


def account(base="http://127.0.0.1:1", **changes):
    return AccountSettings.model_validate({**ACCOUNT, "api_base": base, **changes})


@pytest.fixture(params=CHANNELS)
def name(request):
    return request.param


@pytest.fixture
async def open_channel(name):
    apis = []

    def make(base, **http):
        settings = account(base)
        apis.append(WechatApi(settings.api_base, open_transport(HttpSettings(**http), 4)))
        return CHANNELS[name](apis[-1], settings)

    yield make
    for api in apis:
        await api.close()


async def send(channel, request=None, openid="o-anna", token="tok", may_ask=lambda: True):
    rendered = channel.render(request or Request(CONTENT, phone="110"), NOW)
    body = channel.message(rendered.text).body(openid, "j0123456789ab-11")
    return await channel.attempt(body, token, may_ask)


# -- what is sent ------------------------------------------------------------------------------------------


async def test_a_call_is_a_post_of_raw_utf8_with_the_token_in_the_query(wechat, open_channel, name):
    channel = open_channel(wechat.base)
    assert channel.name == name
    assert await send(channel) == Answer(0, "ok", msgid=1)
    ((path, raw, headers),) = wechat.calls
    assert path == f"{PATHS[name]}?access_token=tok"
    assert headers["Content-Type"].startswith("application/json")
    assert b"\\u" not in raw
    assert "收購 {二手}".encode() in raw
    assert "\U0001f600".encode() in raw
    body = orjson.loads(raw)
    assert body["touser"] == (["o-anna"] if name == "mass" else "o-anna")
    text = body["text"]["content"] if name in TEXTS else body["data"]["keyword1"]["value"] + "!"
    assert text == CONTENT + "!"


async def test_custom_body(wechat):
    api = WechatApi(wechat.base, open_transport(HttpSettings(), 1))
    channel = CHANNELS["custom"](api, account(wechat.base))
    assert orjson.loads(channel.message(channel.render(Request("信"), NOW).text).body('o"1', "m")) == {
        "touser": 'o"1', "msgtype": "text", "text": {"content": "信!"},
    }  # fmt: skip
    await api.close()


async def test_mass_body(wechat):
    wechat.answer = lambda: web.Response(
        body=b'{"errcode":0,"errmsg":"send job submission success","msg_id":3147483685,"msg_data_id":2}'
    )
    api = WechatApi(wechat.base, open_transport(HttpSettings(), 1))
    channel = CHANNELS["mass"](api, account(wechat.base))
    message = channel.message(channel.render(Request("信"), NOW).text)
    body = message.list_body(["o1", 'o"2'], "j1m1")
    assert orjson.loads(body) == {
        "touser": ["o1", 'o"2'], "clientmsgid": "j1m1", "msgtype": "text", "text": {"content": "信!"},
    }  # fmt: skip
    assert message.list_body(["o1", 'o"2'], "j1m1") == body
    answer = await channel.attempt(body, "tok", lambda: True)
    assert answer == Answer(0, "send job submission success", msgid=3147483685)
    await api.close()


async def test_template_body(wechat):
    api = WechatApi(wechat.base, open_transport(HttpSettings(), 1))
    settings = account(wechat.base, template={**ACCOUNT["template"], "url": "https://site/post"})
    channel = CHANNELS["template"](api, settings)
    rendered = channel.render(Request("信", phone="110", extra={"keyword3": "x", "first": "y"}), NOW)
    body = orjson.loads(channel.message(rendered.text).body("o1", "m" * 32))
    assert rendered.warnings == ("template data first: WeChat does not show it since 2023-05-04",)
    assert body == {
        "touser": "o1", "client_msg_id": "m" * 32, "template_id": "T1", "url": "https://site/post",
        "data": {"keyword1": {"value": "信"}, "keyword2": {"value": "2026-02-01 00:30:00"},
                 "keyword3": {"value": "x"}, "first": {"value": "y"}},
    }  # fmt: skip
    await api.close()


async def test_a_new_token_is_used_at_once_and_odd_tokens_arrive_whole(wechat, open_channel):
    channel = open_channel(wechat.base)
    for token in ("one", "two", "a+b/c=&d 信"):
        await send(channel, token=token)
    seen = [unquote_plus(path.partition("?access_token=")[2]) for path, _, _ in wechat.calls]
    assert seen == ["one", "two", "a+b/c=&d 信"]


async def test_what_can_never_be_sent_is_refused_in_words(open_channel, name):
    channel = open_channel("http://127.0.0.1:1")
    if name in TEXTS:
        assert channel.render(Request("x" * 99), NOW) == Rendered("x" * 99 + "!")
        with pytest.raises(ValueError, match=r"101 bytes of UTF-8 .* at most 100"):
            channel.render(Request("x" * 100), NOW)
        with pytest.raises(ValueError, match="103 bytes"):
            channel.render(Request("信" * 34), NOW)
    else:
        with pytest.raises(ValueError, match=f"^{name} data thing1 is empty; accepted: 20 characters$"):
            channel.render(Request("x", extra={"thing1": ""}), NOW)
        with pytest.raises(ValueError, match=f"^{name} data phone_number7 does not fit its type"):
            channel.render(Request("x", extra={"phone_number7": "call me"}), NOW)


# -- answered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"errcode":45015,"errmsg":"out of time rid: 1"}', Answer(45015, "out of time rid: 1")),
        (b'{"errcode":-1,"errmsg":"system error"}', Answer(-1, "system error")),
        (b'{"errcode":0}', Answer(0)),
        (b'{"errcode":40001,"errmsg":null,"more":[]}', Answer(40001, "None")),
        (b'{"errcode":0,"msgid":3557254367693750277}', Answer(0, msgid=3557254367693750277)),
        (b'{"errcode":0,"msgid":"3557254367693750277"}', Answer(0, msgid=3557254367693750277)),
        (b'{"errcode":0,"msgid":3557254367693750277.0}', Answer(0)),
        (b'{"errcode":0,"msgid":3e18}', Answer(0)),
        (b'{"errcode":0,"msgid":9223372036854775808}', Answer(0)),
        (b'{"errcode":0,"msgid":0}', Answer(0)),
        (b'{"errcode":0,"msgid":true}', Answer(0)),
        (b'{"errcode":0,"msgid":"x1"}', Answer(0)),
        (b'{"errcode":0,"msgid":""}', Answer(0)),
        (b'{"errcode":0,"msgid":"99999999999999999999"}', Answer(0)),
        (b'{"errcode":0,"msgid":[1]}', Answer(0)),
    ],
)  # fmt: skip
async def test_answers(wechat, open_channel, body, answer):
    wechat.answer = lambda: web.Response(body=body, content_type="text/plain")
    assert await send(open_channel(wechat.base)) == answer


# -- not answered by WeChat (how a call can end: test_transport_contract.py) --------------------------------


async def test_what_the_transport_says_is_handed_on(wechat, open_channel):
    channel = open_channel(wechat.base)
    for status, answer in ((503, Answer(refused="HTTP 503")), (500, Answer(unanswered="HTTP 500"))):
        wechat.answer = lambda status=status: web.Response(status=status, body=b'{"errcode":0}')
        assert await send(channel) == answer
    assert await send(channel, may_ask=lambda: False) is None
    assert len(wechat.calls) == 2


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"null", b"5", b'"x"', b"{}", b'{"errcode":null}', b'{"errcode":"x"}', b"\xff",
             b'{"errcode":[0]}', b'{"errcode":0'],
)  # fmt: skip
async def test_garbage(wechat, open_channel, body):
    wechat.answer = lambda: web.Response(body=body)
    assert await send(open_channel(wechat.base)) == Answer(unanswered="an answer that is no WeChat answer")


async def test_an_empty_answer(wechat, open_channel):
    wechat.answer = lambda: web.Response(body=b"")
    assert await send(open_channel(wechat.base)) == Answer(unanswered="an empty answer")
