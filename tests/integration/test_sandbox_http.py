"""The sandbox over real HTTP: its endpoints, each outage, its control."""

import asyncio
import json
import socket
from urllib.parse import urlsplit

import aiohttp
import pytest

from broadcastd.sandbox import Options, PortTaken, openid, running_sandbox, start
from broadcastd.sandbox.behaviour import Kind

CUSTOM = "/cgi-bin/message/custom/send"
TEMPLATE = "/cgi-bin/message/template/send"
NOT_ANSWERED = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)


class Caller:
    """An aiohttp client of one sandbox."""

    def __init__(self, session, sandbox):
        self.session = session
        self.sandbox = sandbox

    def post(self, path, body, **how):
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        url = f"{self.sandbox.url}{path}?access_token={self.sandbox.token}"
        return self.session.post(url, data=raw, **how)

    async def errcode(self, path, body):
        async with self.post(path, body) as response:
            return (await response.json())["errcode"]

    def custom(self, number=0):
        text = {"touser": openid(number), "msgtype": "text", "text": {"content": "求購信息"}}
        return self.errcode(CUSTOM, text)

    def template(self, number=0, **more):
        return self.errcode(TEMPLATE, {"touser": openid(number), "template_id": "T", "data": DATA} | more)

    async def control(self, method, path, body=None, status=200):
        url = f"{self.sandbox.control_url}/sandbox/{path}"
        async with self.session.request(method, url, json=body) as response:
            assert response.status == status, await response.text()
            return await response.json(content_type=None)


DATA = {"keyword1": {"value": "求購"}}


@pytest.fixture
async def sandbox():
    async with running_sandbox(Options(inside=3, outside=2, unfollowed=1)) as running:
        yield running


@pytest.fixture
async def caller(sandbox):
    async with aiohttp.ClientSession() as session:
        yield Caller(session, sandbox)


async def test_the_sends_and_what_the_summary_says_of_them(caller, sandbox):
    assert [await caller.custom(number) for number in range(7)] == [0, 0, 0, 45015, 45015, 43004, 40003]
    assert [await caller.template(number) for number in (3, 4, 4)] == [0, 0, 0]
    summary = sandbox.summary()
    assert summary["by_endpoint"] == {
        "custom": {"0": 3, "40003": 1, "43004": 1, "45015": 2},
        "template": {"0": 3},
    }
    assert summary["delivered_by_channel"] == {"custom": 3, "template": 3, "subscribe": 0, "mass": 0}
    assert summary["followers_reached"] == 5
    assert summary["first_repeated"] == [{"openid": openid(4), "count": 2}]
    assert summary["in_flight_max"] == 1


async def test_the_content_type_is_the_real_one(caller):
    async with caller.post(CUSTOM, b"") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json; encoding=utf-8"
        assert (await response.json())["errcode"] == 44002


async def test_both_token_endpoints(caller, sandbox):
    asked = {
        "grant_type": "client_credential",
        "appid": sandbox.options.app_id,
        "secret": sandbox.options.app_secret,
    }
    async with caller.session.get(f"{sandbox.url}/cgi-bin/token", params=asked) as response:
        classic = await response.json()
    assert classic == {"access_token": sandbox.token, "expires_in": 7200}
    async with caller.session.post(f"{sandbox.url}/cgi-bin/stable_token", json=asked) as response:
        stable = await response.json()
    assert stable["access_token"] != classic["access_token"]


async def test_http_1_0_and_connection_close(sandbox):
    for version, header in (("1.0", ""), ("1.1", "Connection: close\r\n")):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(sandbox.url).port)
        writer.write(f"GET {CUSTOM} HTTP/{version}\r\nHost: x\r\n{header}\r\n".encode())
        answer = await reader.read()
        assert b" 200 " in answer.split(b"\r\n")[0]
        assert b'"errcode":41001' in answer
        writer.close()
        await writer.wait_closed()


async def test_many_at_once_over_kept_connections(caller, sandbox):
    await sandbox.behave({"latency_ms": [1, 5]})
    assert set(await asyncio.gather(*(caller.template(number % 3) for number in range(300)))) == {0}
    assert dict(sandbox.deliveries()) == {openid(number): 100 for number in range(3)}
    assert sandbox.summary()["in_flight_max"] > 1


@pytest.mark.parametrize("after", ["", "_after_send"])
@pytest.mark.parametrize("kind", ["reset", "half"])
async def test_an_answer_that_never_comes_whole(caller, sandbox, kind, after):
    await sandbox.add_outage(kind + after, count=1)
    with pytest.raises(NOT_ANSWERED):
        await caller.custom()
    assert sandbox.summary()["by_endpoint"] == {"custom": {kind + after: 1}}
    assert sandbox.summary()["delivered"] == (1 if after else 0)
    assert await caller.custom() == 0


async def test_a_reset_is_a_reset(sandbox):
    await sandbox.add_outage("reset")
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(sandbox.url).port)
    writer.write(f"POST {CUSTOM} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("after", ["", "_after_send"])
async def test_hang_reads_and_never_answers(caller, sandbox, after):
    await sandbox.add_outage("hang" + after, count=1)
    asking = asyncio.create_task(caller.custom())
    await sandbox.wait_for(calls=1)
    assert not asking.done()
    assert sandbox.summary()["delivered"] == (1 if after else 0)
    assert sandbox.calls()[0]["openid"] == openid(0)
    asking.cancel()
    assert await caller.custom() == 0


async def test_closing_does_not_wait_for_what_hangs():
    async with running_sandbox() as sandbox, aiohttp.ClientSession() as session:
        await sandbox.add_outage("hang")
        asking = asyncio.create_task(Caller(session, sandbox).custom())
        await sandbox.wait_for(calls=1)
        await sandbox.close()
        with pytest.raises(NOT_ANSWERED):
            await asking


@pytest.mark.parametrize(
    ("kind", "status", "start"),
    [
        ("http_412", 412, "<html>"),
        ("http_429", 429, "<html>"),
        ("http_500", 500, "<html>"),
        ("http_502", 502, "<html>"),
        ("http_503", 503, "<html>"),
        ("http_504", 504, "<html>"),
        ("http_504_after_send", 504, "<html>"),
        ("garbage", 200, "<html>"),
        ("empty", 200, ""),
        ("empty_after_send", 200, ""),
        ("redirect", 302, "302"),
    ],
)
async def test_answers_that_say_nothing(caller, sandbox, kind, status, start):
    await sandbox.add_outage(kind)
    body = {"touser": openid(0), "msgtype": "text", "text": {"content": "a"}}
    async with caller.post(CUSTOM, body, allow_redirects=False) as response:
        text = await response.text()
        assert response.status == status
        assert (
            text.startswith(start)
            if start != "302"
            else response.headers["Location"].startswith("/redirected/")
        )
        assert bool(text) == (kind not in ("empty", "empty_after_send", "redirect"))
    assert sandbox.summary()["delivered"] == ("after_send" in kind)
    assert sandbox.summary()["by_endpoint"] == {"custom": {kind: 1}}


ANSWERED = {"slow", "trickle", "wrong_type"}


@pytest.mark.parametrize("kind", sorted(ANSWERED))
async def test_a_true_answer_in_an_untrue_manner(caller, sandbox, kind):
    await sandbox.add_outage(kind, seconds=0.2)
    began = asyncio.get_running_loop().time()
    body = {"touser": openid(3), "msgtype": "text", "text": {"content": "a"}}
    async with caller.post(CUSTOM, body) as response:
        answer = await response.json(content_type=None)
    took_s = asyncio.get_running_loop().time() - began
    assert answer["errcode"] == 45015
    assert (response.content_type == "text/html") == (kind == "wrong_type")
    assert (took_s >= 0.2) == (kind != "wrong_type")
    assert sandbox.summary()["by_endpoint"] == {"custom": {kind: 1}}


@pytest.mark.parametrize("after", ["", "_after_send"])
async def test_a_body_without_end(caller, sandbox, after):
    await sandbox.add_outage("endless" + after)
    body = {"touser": openid(0), "msgtype": "text", "text": {"content": "a"}}
    async with caller.post(CUSTOM, body) as response:
        assert (await response.content.readexactly(20_000_000)).startswith(b'{"errcode":0,"errmsg":"ok ')
    assert sandbox.summary()["delivered"] == (1 if after else 0)


async def test_who_follows_a_redirect_is_seen(caller, sandbox):
    await sandbox.add_outage("redirect", endpoint="custom")
    assert await caller.custom() == 40066
    assert sandbox.summary()["by_endpoint"] == {"custom": {"redirect": 1}, "redirected": {"40066": 1}}


def test_every_kind_is_tested_here():
    tested = {"refuse", "hang", "reset", "half", "garbage", "empty", "redirect", "endless", *ANSWERED}
    assert {str(kind) for kind in Kind} == tested | {
        f"http_{code}" for code in (412, 429, 500, 502, 503, 504)
    }


async def test_refuse_closes_the_port_and_the_control_stays(caller, sandbox):
    assert await caller.custom() == 0
    assert not (await caller.control("POST", "outages", {"kind": "refuse"}))["listening"]
    # The client may try its kept connection first, which is closed too.
    with pytest.raises(aiohttp.ClientConnectionError):
        await caller.custom()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", urlsplit(sandbox.url).port)
    assert (await caller.control("DELETE", "outages"))["listening"]
    assert await caller.custom() == 0
    assert sandbox.summary()["calls"] == 2


async def test_refuse_lets_those_in_flight_end(caller, sandbox):
    await sandbox.behave({"latency_ms": 50})
    asking = asyncio.create_task(caller.custom())
    await sandbox.wait_for(calls=1)
    await sandbox.add_outage("refuse")
    assert await asking == 0
    with pytest.raises(aiohttp.ClientConnectorError):
        await caller.custom()


async def test_refuse_ends_by_itself(caller, sandbox):
    await sandbox.add_outage("refuse", duration_s=0.05)
    assert not sandbox.listening
    assert await caller.control("GET", "wait?listening=1&timeout_s=10")
    assert await caller.custom() == 0


async def test_refuse_ends_with_the_clock(caller, sandbox):
    await sandbox.add_outage("refuse", duration_s=1000)
    await sandbox.advance(1000)
    assert await caller.custom() == 0


async def test_behaviour_at_run_time(caller):
    shown = await caller.control("POST", "behaviour", {"latency_ms": [1, 2], "errors": {"-1": {"count": 2}}})
    assert shown["latency_ms"] == [1, 2]
    assert shown["errors"][0]["left"] == 2
    assert [await caller.custom() for _ in range(3)] == [-1, -1, 0]
    shown = await caller.control("GET", "behaviour")
    assert shown == {"latency_ms": [1, 2], "errors": [], "outages": [], "listening": True}


async def test_tokens_at_run_time(caller):
    first = (await caller.control("GET", "token"))["token"]
    shown = await caller.control("POST", "token", {"expire": True, "expires_in_s": 100})
    assert shown == {"token": first, "errcode": 42001, "expires_in_s": 100}
    assert await caller.custom() == 42001
    renewed = await caller.control("POST", "token", {"renew": True})
    assert renewed["token"] != first
    assert renewed["errcode"] == 0
    assert await caller.custom() == 0
    await caller.control("POST", "clock", {"advance_s": 100})
    assert await caller.custom() == 42001
    assert (await caller.control("POST", "token", {"renew": True, "invalidate": True}))["errcode"] == 0
    await caller.control("POST", "token", {"invalidate": True})
    assert await caller.custom() == 40001


async def test_followers_at_run_time(caller):
    everyone = [openid(number) for number in range(3)]
    await caller.control("POST", "followers", {"openids": everyone[:1], "window": "closed"})
    await caller.control("POST", "followers", {"openids": everyone[1:2], "unfollow": True})
    await caller.control("POST", "followers", {"openids": everyone[2:], "errcode": 48002})
    assert [await caller.custom(number) for number in range(3)] == [45015, 43004, 48002]
    await caller.control("POST", "followers", {"openids": everyone, "interaction": "follow", "errcode": 0})
    assert [await caller.custom(number) for number in range(3)] == [0, 0, 0]
    shown = await caller.control("GET", f"followers?openid={everyone[0]}")
    assert (shown["standing"], shown["window_open"], shown["spent"], shown["allowance"]) == (
        "follows",
        True,
        1,
        3,
    )
    await caller.control("POST", "followers", {"openids": ["somebody new"], "interaction": "follow"})
    assert (await caller.control("GET", "followers?openid=somebody%20new"))["standing"] == "follows"


async def test_calls_and_deliveries_over_http(caller):
    for number in (0, 1, 0):
        await caller.custom(number)
    await caller.template(0, client_msg_id="j1-r0")
    mine = await caller.control("GET", f"calls?openid={openid(0)}&limit=2")
    assert [call["number"] for call in mine["calls"]] == [0, 2]
    more = await caller.control("GET", f"calls?openid={openid(0)}&since={mine['next']}")
    assert [(call["number"], call["client_msg_id"]) for call in more["calls"]] == [(3, "j1-r0")]
    assert more["total"] == 4
    assert mine["calls"][0]["text"] == "求購信息"
    counts = {openid(0): 3, openid(1): 1}
    assert await caller.control("GET", "deliveries") == counts
    url = f"{caller.sandbox.control_url}/sandbox/deliveries?format="
    async with caller.session.get(url + "lines") as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert {line["openid"]: line["count"] for line in lines} == counts
    async with caller.session.get(url + "tsv") as response:
        assert await response.text() == f"{openid(0)}\t3\n{openid(1)}\t1\n"
    assert await caller.control("GET", "deliveries?text=keyword1") == {openid(0): 1}


async def test_answers_are_counted_when_they_are_given(caller):
    await caller.custom(0)
    await caller.control("POST", "outages", {"kind": "reset_after_send", "count": 1})
    with pytest.raises(NOT_ANSWERED):
        await caller.custom(1)
    answered, lost = (await caller.control("GET", "calls"))["calls"]
    assert answered["at"] <= answered["answered_at"]
    assert lost["delivered"]
    assert lost["answered_at"] is None
    at = answered["answered_at"]
    assert await caller.control("GET", "answered") == {"answered": 1}
    assert await caller.control("GET", f"answered?since={at - 0.1}&until={at + 0.1}") == {"answered": 1}
    assert await caller.control("GET", f"answered?since={at + 0.1}") == {"answered": 0}


async def test_deliveries_to_nobody_and_to_very_many():
    async with running_sandbox() as sandbox, aiohttp.ClientSession() as session:
        caller = Caller(session, sandbox)
        assert await caller.control("GET", "deliveries") == {}
        for number in range(2500):
            row = sandbox.followers.row(f'o"{number}', 0.0)
            sandbox.record.deliveries.add(row)
        assert await caller.control("GET", "deliveries") == {f'o"{number}': 1 for number in range(2500)}


async def test_wait_answers_when_it_has_come(caller):
    waiting = asyncio.create_task(caller.control("GET", "wait?delivered=2"))
    await caller.custom(3)
    await caller.custom(0)
    await caller.custom(1)
    assert (await waiting) == {
        "reached": True,
        "calls": 3,
        "delivered": 2,
        "pushed": 0,
        "listening": True,
    }
    assert not (await caller.control("GET", "wait?calls=4&timeout_s=0"))["reached"]


async def test_closing_cuts_who_waits():
    async with running_sandbox() as sandbox, aiohttp.ClientSession() as session:
        waiting = asyncio.create_task(Caller(session, sandbox).control("GET", "wait?calls=1&timeout_s=900"))
        await Caller(session, sandbox).control("GET", "summary")
        await sandbox.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await waiting


async def test_reset_is_as_at_the_start(caller, sandbox):
    first = sandbox.token
    await caller.custom()
    await caller.control("POST", "token", {"renew": True, "invalidate": True})
    await caller.control(
        "POST", "behaviour", {"errors": {"-1": 1}, "outages": ["refuse"], "latency_ms": 9000}
    )
    assert (await caller.control("POST", "reset"))["calls"] == 0
    assert sandbox.token == first
    assert [await caller.custom() for _ in range(6)] == [0, 0, 0, 0, 0, 45047]


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("POST", "behaviour", {"latency_ms": "slow"}, "latency_ms"),
        ("POST", "outages", {"kind": "flood"}, "flood"),
        ("POST", "outages", {}, "kind"),
        ("POST", "token", {"expires": 1}, "expires"),
        ("POST", "followers", {"openids": []}, "openids"),
        ("POST", "clock", {"advance_s": -1}, "advance_s"),
        ("POST", "clock", [], "object"),
        ("GET", "followers", None, "openid"),
        ("GET", "calls?since=-1", None, "since"),
        ("GET", "calls?since=nan", None, "since"),
        ("GET", "deliveries?format=xml", None, "format"),
        ("GET", "answered?since=yesterday", None, "since"),
    ],
)
async def test_the_control_names_what_is_wrong(caller, method, path, body, named):
    assert named in (await caller.control(method, path, body, status=400))["error"]


async def test_the_control_lists_itself(caller, sandbox):
    shown = await caller.control("GET", "")
    assert shown["url"] == sandbox.url
    assert "POST /sandbox/reset" in shown["routes"]


async def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in (Options(port=port), Options(control_port=port)):
            with pytest.raises(PortTaken, match=f"127.0.0.1:{port}: the port is in use"):
                await start(options)


async def test_options_are_the_behaviour_at_the_start():
    options = Options(errors={"45011": 1}, latency_ms=1, outages=[{"kind": "empty", "endpoint": "template"}])
    async with running_sandbox(options) as sandbox, aiohttp.ClientSession() as session:
        assert await Caller(session, sandbox).custom() == 45011
        await sandbox.behave({"errors": {}})
        assert await Caller(session, sandbox).custom() == 0
        await sandbox.reset()
        assert await Caller(session, sandbox).custom() == 45011
