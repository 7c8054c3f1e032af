"""The callbacks' listener over HTTP, with a use case of the test's own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from bed.fakes import FakeClock
from bed.pushes import AES_KEY, APP_ID, OTHER_AES_KEY, TOKEN, Platform, Sent, event, text

from broadcastd.callback import listener as listener_module
from broadcastd.callback.endpoint import Endpoint
from broadcastd.callback.envelope import Envelope
from broadcastd.callback.forwarding import FORWARDED, Forwarder
from broadcastd.callback.listener import Listener
from broadcastd.callback_settings import AccountCallbackSettings, CallbackSettings
from broadcastd.clock import SystemClock
from broadcastd.errors import CannotListenError, LedgerUnavailableError
from broadcastd.pushes import Push, TextMessage, Word

REPLIES = {Word.OPT_OUT: "取消了 ]]> <&>", Word.OPT_IN: ""}


class FakeReception:
    """Notes what it is given; answers a word for "0" and "1"."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Push]] = []
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, account: str, push: Push) -> Word | None:
        await self.gate.wait()
        if self.broken:
            raise LedgerUnavailableError("the disk is full")
        self.taken.append((account, push))
        words = {"0": Word.OPT_OUT, "1": Word.OPT_IN}
        return words.get(push.content) if isinstance(push, TextMessage) else None


class Callback:
    """A running listener with one account, and a client."""

    def __init__(
        self, reception: FakeReception, endpoint: Endpoint, port: int, client: aiohttp.ClientSession
    ):
        self.reception = reception
        self.endpoint = endpoint
        self.port = port
        self.client = client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/wechat/{self.endpoint.account}"

    async def post(self, sent: Sent) -> tuple[int, bytes]:
        async with self.client.post(self.url, params=sent.query, data=sent.body) as response:
            return response.status, await response.read()

    async def get(self, query: dict[str, str]) -> tuple[int, bytes]:
        async with self.client.get(self.url, params=query) as response:
            return response.status, await response.read()

    async def raw(self, data: bytes) -> bytes:
        """Bytes as they are; what comes back until it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def running(
    account: str = "default",
    clock: Any = None,
    forward_to: str = "",
    listening: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Callback]:
    reception = FakeReception()
    checked = AccountCallbackSettings(**{"token": TOKEN, **settings})
    forwarder = Forwarder(forward_to, 1, account) if forward_to else None
    envelope = Envelope(checked, APP_ID)
    endpoint = Endpoint(account, envelope, REPLIES, reception, clock or SystemClock(), forwarder)
    async with contextlib.AsyncExitStack() as stack:
        if forwarder is not None:
            stack.push_async_callback(forwarder.close)
        there = await stack.enter_async_context(
            Listener(CallbackSettings(port=0, **(listening or {})), [endpoint])
        )
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Callback(reception, endpoint, there.port, client)


SAFE = {"aes_key": AES_KEY}


async def test_verification_echoes_when_signed():
    async with running() as callback:
        assert await callback.get(Platform().verification("43751<b>209")) == (200, b"43751<b>209")
        assert await callback.get({**Platform(nonce="1").verification("x"), "nonce": "2"}) == (403, b"")
        assert await callback.get({}) == (403, b"")
        assert await callback.get(Platform().verification("x" * 1025)) == (403, b"")


async def test_a_verification_may_be_old():
    """It does nothing. This is the one of WeChat's documentation."""
    async with running(token="AAAAA") as callback:
        query = {"timestamp": "1714036504", "nonce": "1514711492", "echostr": "4375120948345356249"}
        query["signature"] = "f464b24fc39322e44b38aa78f5edd27bd1441696"
        assert await callback.get(query) == (200, b"4375120948345356249")


async def test_a_plain_push_is_taken_and_confirmed():
    async with running() as callback:
        status, body = await callback.post(Platform().plain(text("oX", "0")))
        assert status == 200
        assert b"<ToUserName><![CDATA[oX]]></ToUserName>" in body
        assert b"<FromUserName><![CDATA[gh_7f083739789a]]></FromUserName>" in body
        import xmltodict

        assert xmltodict.parse(body)["xml"]["Content"] == REPLIES[Word.OPT_OUT]
        assert await callback.post(Platform().plain(text("oX", "1"))) == (200, b"success")  # an empty text
        assert await callback.post(Platform().plain(text("oX", "hi"))) == (200, b"success")
        assert [push.content for _, push in callback.reception.taken] == ["0", "1", "hi"]
        assert callback.endpoint.received == 3


@pytest.mark.parametrize("mode", ["safe", "compatible", None])
async def test_an_encrypted_push_gets_an_encrypted_reply(mode):
    async with running(**SAFE, mode=mode) as callback:
        platform = Platform()
        status, body = await callback.post(platform.safe(text("oX", "0")))
        assert status == 200
        assert "<FromUserName><![CDATA[gh_7f083739789a]]>" in platform.opened(body)
        status, body = await callback.post(platform.compatible(text("oX", "0")))
        assert "<FromUserName><![CDATA[gh_7f083739789a]]>" in platform.opened(body)
        assert await callback.post(platform.safe(event("oX", "CLICK"))) == (200, b"success")
        assert len(callback.reception.taken) == 3


async def test_while_the_key_changes_the_answer_is_in_the_pushs_own():
    async with running(aes_key=AES_KEY, previous_aes_key=OTHER_AES_KEY) as callback:
        for key in (AES_KEY, OTHER_AES_KEY):
            platform = Platform(aes_key=key)
            _, body = await callback.post(platform.safe(text("oX", "0")))
            assert "oX" in platform.opened(body)


async def test_plain_pushes_in_the_other_modes():
    async with running(**SAFE, mode="compatible") as callback:
        status, body = await callback.post(Platform().plain(text("oX", "0")))
        assert status == 200
        assert b"<ToUserName><![CDATA[oX]]>" in body
    async with running(**SAFE, mode="safe") as callback:
        assert await callback.post(Platform().plain(text("oX", "0"))) == (403, b"")
        assert not callback.reception.taken
    async with running(mode="plain") as callback:  # the console is set to compatible, and no key is here
        assert (await callback.post(Platform().compatible(text("oX", "0"))))[0] == 200
        assert (await callback.post(Platform().safe(text("oX", "0"))))[0] == 403
        assert len(callback.reception.taken) == 1


async def test_a_push_as_json_gets_its_reply_as_json():
    async with running() as callback:
        fields = {
            "ToUserName": "gh_x",
            "FromUserName": "oX",
            "CreateTime": 1,
            "MsgType": "text",
            "Content": "0",
        }
        status, body = await callback.post(Platform().plain(json.dumps({**fields, "MsgId": 1})))
        assert status == 200
        reply = json.loads(body)
        assert (reply["ToUserName"], reply["FromUserName"]) == ("oX", "gh_x")
        assert (reply["MsgType"], reply["Content"]) == ("text", REPLIES[Word.OPT_OUT])


async def test_what_is_tampered_with_is_refused_without_a_word():
    good, safe = Platform().plain(text("oX", "0")), Platform().safe(text("oX", "0"))
    async with running(**SAFE, mode="compatible") as callback:
        for sent in (
            Sent({**good.query, "signature": "0" * 40}, good.body),
            Sent({**good.query, "signature": "\u4e00"}, good.body),
            Sent({**good.query, "nonce": "1"}, good.body),
            Sent({**good.query, "timestamp": ""}, good.body),
            Sent({name: value for name, value in good.query.items() if name != "signature"}, good.body),
            Sent({**safe.query, "msg_signature": "0" * 40}, safe.body),
            Sent(safe.query, safe.body.replace(b"<Encrypt><![CDATA[", b"<Encrypt><![CDATA[A")),
            Platform(token="another0token").safe(text("oX", "0")),
            Platform(token="another0token").plain(text("oX", "0")),
            Platform(aes_key="B" * 43).safe(text("oX", "0")),
            Platform(app_id="wx0").safe(text("oX", "0")),
        ):
            assert await callback.post(sent) == (403, b""), sent
        assert not callback.reception.taken
        assert callback.endpoint.refused == 11


async def test_refusals_do_not_fill_the_log():
    async with running(clock=FakeClock()) as callback:
        with structlog.testing.capture_logs() as logs:
            for _ in range(50):
                await callback.post(Sent({**Platform().signed(), "signature": "x"}, b""))
        assert [entry["event"] for entry in logs].count("push_refused") == 1
        assert TOKEN not in str(logs)


async def test_an_old_request_is_refused():
    clock = FakeClock()
    now = int(clock.now().timestamp())
    async with running(clock=clock, **SAFE, mode="compatible") as callback:
        for off in (-601, 601):
            platform = Platform(timestamp=now + off)
            assert await callback.post(platform.plain(text("oX", "0"))) == (403, b"")
            assert await callback.post(platform.safe(text("oX", "0"))) == (403, b"")
        for off in (-599, 599):
            assert (await callback.post(Platform(timestamp=now + off).plain(text("oX", "0"))))[0] == 200


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(b)} "{f"&{chr(b - 1)};" * 10}">' for b in range(ord("b"), ord("k")))
    + "]><xml><FromUserName>&j;</FromUserName><MsgType>text</MsgType></xml>"
)


@pytest.mark.parametrize("body", [BOMB, "", "no push", "<xml>", "<xml><a/></xml>", "{}", "[" * 30000])
async def test_bodies_that_are_no_push(body):
    async with running(**SAFE, mode="compatible") as callback:
        assert await callback.post(Platform().plain(body)) == (400, b"")
        assert await callback.post(Platform().safe(body)) == (400, b"")
        assert not callback.reception.taken


async def test_paths_and_methods():
    async with running() as callback:
        for path in (
            "/",
            "/wechat/",
            "/wechat/other",
            "/wechat/default/",
            "/metrics",
            "/wechat/%64efault/..",
        ):
            async with callback.client.get(f"http://127.0.0.1:{callback.port}{path}") as response:
                assert response.status == 404, path
        for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"):
            async with callback.client.request(method, callback.url, params=Platform().signed()) as response:
                assert response.status == 405
                assert await response.read() == b""


async def test_an_account_with_any_name_has_its_path():
    async with running(account="店 #1") as callback:
        url = f"http://127.0.0.1:{callback.port}/wechat/%E5%BA%97%20%231"
        async with callback.client.get(url, params=Platform().verification("x")) as response:
            assert response.status == 200


async def test_enormous_bodies_are_not_read():
    async with running() as callback:
        sent = Platform().plain(text("oX", "x" * 70000))
        assert await callback.post(sent) == (413, b"")

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

        with contextlib.suppress(aiohttp.ClientError):  # it may hang up before it is told
            async with callback.client.post(callback.url, params=sent.query, data=endless()) as response:
                assert response.status == 413
        assert not callback.reception.taken
        assert (await callback.post(Platform().plain(text("oX", "0"))))[0] == 200


async def test_slow_senders_are_hung_up_on(monkeypatch):
    monkeypatch.setattr(listener_module, "ANSWER_S", 0.3)
    async with running(listening={"idle_timeout_s": 0.3}) as callback:
        assert await callback.raw(b"") == b""  # says nothing
        assert await callback.raw(b"POST /wechat/default HTTP/1.1\r\nHost: x\r\n") == b""  # half a head
        half = await callback.raw(
            b"POST /wechat/default HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<xml>"
        )
        assert half.startswith(b"HTTP/1.1 503 ")
        assert b"success" not in half
        assert (await callback.post(Platform().plain(text("oX", "0"))))[0] == 200


async def test_garbage_is_not_http():
    async with running(listening={"idle_timeout_s": 0.3}) as callback:
        for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\x00" * 10000, b"A" * 100000):
            assert (await callback.raw(data))[:12] in (b"", b"HTTP/1.0 400", b"HTTP/1.1 400")
        assert (await callback.post(Platform().plain(text("oX", "0"))))[0] == 200


async def test_who_has_been_idle_longest_gives_way():
    async with running(listening={"max_connections": 3}) as callback:
        held = [await asyncio.open_connection("127.0.0.1", callback.port) for _ in range(3)]
        assert await callback.raw(b"GET /wechat/default HTTP/1.1\r\nHost: x\r\n\r\n") != b""
        with contextlib.suppress(ConnectionResetError):
            assert await held[0][0].read() == b""
        # The others stay in.
        held[1][1].write(b"GET /wechat/default HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await held[1][0].read()).startswith(b"HTTP/1.1 403 ")
        for _, writer in held:
            writer.close()


async def test_a_ledger_that_cannot_take_it_is_not_a_success():
    async with running() as callback:
        callback.reception.broken = True
        assert await callback.post(Platform().plain(text("oX", "0"))) == (503, b"")
        callback.reception.broken = False
        assert (await callback.post(Platform().plain(text("oX", "0"))))[0] == 200


async def test_a_ledger_that_hangs_is_not_a_success(monkeypatch):
    monkeypatch.setattr(listener_module, "ANSWER_S", 0.2)
    async with running() as callback:
        callback.reception.gate.clear()
        assert await callback.post(Platform().plain(text("oX", "0"))) == (503, b"")


async def test_a_bug_is_not_a_success(monkeypatch):
    async with running() as callback:
        monkeypatch.setattr(callback.reception, "take", None)
        assert await callback.post(Platform().plain(text("oX", "0"))) == (503, b"")


async def test_a_port_that_is_taken():
    async with running() as callback:
        with pytest.raises(CannotListenError, match=r"callback\.port"):
            async with Listener(CallbackSettings(port=callback.port), []):
                pass


class Site:
    """The callback that the site had before."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.answer = web.Response(text="success")
        self.hang = False

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(
            (request.raw_path, await request.read(), request.headers.get("Content-Type", ""))
        )
        self.headers.append(request.headers)
        if self.hang:
            await asyncio.Event().wait()
        return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)


@contextlib.asynccontextmanager
async def a_site() -> AsyncIterator[tuple[Site, str]]:
    site = Site()
    runner = web.ServerRunner(web.Server(site.serve, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    there = web.TCPSite(runner, "127.0.0.1", 0)
    await there.start()
    try:
        yield site, f"http://127.0.0.1:{runner.addresses[0][1]}/wx.php"
    finally:
        await runner.cleanup()


async def test_the_site_sees_everything_as_it_came():
    async with a_site() as (site, url), running(**SAFE, forward_to=url) as callback:
        sent = Platform().safe(text("oX", "hi"))
        assert await callback.post(sent) == (200, b"success")
        ((path, body, _),) = site.requests
        assert body == sent.body
        assert path == "/wx.php?" + "&".join(f"{name}={value}" for name, value in sent.query.items())
        assert len(callback.reception.taken) == 1
        # Nothing of what is not WeChat's.
        await callback.post(Sent({**sent.query, "msg_signature": "x"}, sent.body))
        assert len(site.requests) == 1


async def test_what_was_passed_on_once_goes_round_no_more():
    async with a_site() as (site, url), running(forward_to=url) as callback:
        zero = Platform().plain(text("oX", "0"))
        await callback.post(zero)
        (sent,) = site.headers
        back = {"params": zero.query, "data": zero.body, "headers": {FORWARDED: sent[FORWARDED]}}
        async with callback.client.post(callback.url, **back) as response:
            assert response.status == 200
            assert b"<ToUserName><![CDATA[oX]]>" in await response.read()
        assert len(site.requests) == 1
        assert callback.endpoint.forwarder.failures == 1


async def test_a_sites_own_query_stays():
    async with a_site() as (site, url), running(forward_to=f"{url}?m=wx") as callback:
        await callback.post(Platform().plain(text("oX", "hi")))
        assert site.requests[0][0].startswith("/wx.php?m=wx&signature=")


async def test_the_sites_reply_wins_when_it_says_something():
    async with a_site() as (site, url), running(forward_to=url) as callback:
        zero = Platform().plain(text("oX", "0"))
        for nothing in (b"", b"success", b" success\n"):
            site.answer = web.Response(body=nothing)
            assert REPLIES[Word.OPT_OUT].split(" ")[0].encode() in (await callback.post(zero))[1]
        site.answer = web.Response(body=b"<xml>the site's own</xml>", content_type="application/xml")
        async with callback.client.post(callback.url, params=zero.query, data=zero.body) as response:
            assert await response.read() == b"<xml>the site's own</xml>"
            assert response.content_type == "application/xml"
        assert len(callback.reception.taken) == 4


async def test_what_the_site_does_never_stops_ours():
    async with a_site() as (site, url), running(forward_to=url) as callback:
        zero = Platform().plain(text("oX", "0"))
        for answer in (
            web.Response(status=500, body=b"<xml>trace</xml>"),
            web.Response(status=302, headers={"Location": url + "?elsewhere"}),
            web.Response(body=b"x" * 70000),
        ):
            site.answer = answer
            status, body = await callback.post(zero)
            assert status == 200
            assert b"<ToUserName><![CDATA[oX]]>" in body
        assert len(site.requests) == 3  # no redirect was followed
        site.hang = True
        assert b"<ToUserName><![CDATA[oX]]>" in (await callback.post(zero))[1]
        assert callback.endpoint.forwarder.failures == 4
        assert len(callback.reception.taken) == 4


async def test_a_site_that_is_not_there():
    async with a_site() as (_, url):
        pass
    async with running(forward_to=url) as callback:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                assert (await callback.post(Platform().plain(text("oX", "0"))))[0] == 200
        assert [entry["event"] for entry in logs].count("forward_failed") == 1


async def test_without_the_ledger_the_sites_answer_is_no_success_either():
    async with a_site() as (site, url), running(forward_to=url) as callback:
        site.answer = web.Response(body=b"<xml>the site's own</xml>")
        callback.reception.broken = True
        assert await callback.post(Platform().plain(text("oX", "0"))) == (503, b"")
