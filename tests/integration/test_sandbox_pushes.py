"""The sandbox pushes to a callback over real HTTP: tries, modes, order, what is recorded."""

import asyncio
import warnings

import aiohttp
import pytest
from aiohttp import web

from broadcastd.sandbox import Options, openid, running_sandbox

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from wechatpy import parse_message
    from wechatpy.crypto import WeChatCrypto
    from wechatpy.replies import TextReply

KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
TOKEN = "AAAAA"
TEMPLATE = "/cgi-bin/message/template/send"
MASS = "/cgi-bin/message/mass/send"


class Site:
    """The site's own callback: it notes what comes and answers what it is told to."""

    def __init__(self):
        self.came = []
        self.answers = []
        self.seen = asyncio.Event()

    async def handle(self, request):
        if request.method == "GET":
            return web.Response(text=request.query["echostr"])
        self.came.append((dict(request.query), await request.text()))
        self.seen.set()
        answer = self.answers.pop(0) if self.answers else "success"
        if callable(answer):
            answer = await answer()
        return answer if isinstance(answer, web.Response) else web.Response(text=answer)

    def messages(self):
        return [parse_message(body) for _, body in self.came]


@pytest.fixture
async def site():
    made = Site()
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/wechat/default"
    yield made
    await runner.cleanup()


def options_of(site, **callback):
    callback = {"url": site.url, "token": TOKEN, "timeout_s": 5} | callback
    return Options(inside=20, outside=5, callback=callback)


class Caller:
    def __init__(self, session, sandbox):
        self.session = session
        self.sandbox = sandbox

    async def send(self, path, body):
        url = f"{self.sandbox.url}{path}?access_token={self.sandbox.token}"
        async with self.session.post(url, json=body) as response:
            return await response.json()

    async def template(self, number):
        body = {"touser": openid(number), "template_id": "T", "data": {"keyword1": {"value": "x"}}}
        return await self.send(TEMPLATE, body)

    async def control(self, method, path, body=None, status=200):
        url = f"{self.sandbox.control_url}/sandbox/{path}"
        async with self.session.request(method, url, json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()


@pytest.fixture
async def caller(site):
    async with running_sandbox(options_of(site)) as sandbox, aiohttp.ClientSession() as session:
        yield Caller(session, sandbox)


async def test_each_template_message_has_its_event(caller, site):
    msgids = {(await caller.template(number))["msgid"] for number in range(10)}
    await caller.sandbox.wait_for(pushed=10)
    assert {int(message.id) for message in site.messages()} == msgids
    assert {message.source for message in site.messages()} == {openid(number) for number in range(10)}
    totals = caller.sandbox.summary()["pushes"]
    assert (totals["pushed"], totals["ended"]) == (10, 10)
    assert totals["by_kind"]["TEMPLATESENDJOBFINISH"]["answered"] == 10


async def test_the_event_can_come_before_the_answer(caller, site):
    await caller.control("POST", "results", {"event_first": True})
    order, released = [], asyncio.Event()

    async def answer_late():
        order.append("event")
        await released.wait()
        return "success"

    site.answers.append(answer_late)
    sending = asyncio.create_task(caller.template(0))
    sending.add_done_callback(lambda _: order.append("answer"))
    await site.seen.wait()
    assert not sending.done()
    released.set()
    assert (await sending)["errcode"] == 0
    assert order == ["event", "answer"]


async def test_three_tries_of_the_same_message(caller, site):
    site.answers = [web.Response(status=500), web.Response(status=302, headers={"Location": "/else"})]
    act = {"openids": [openid(0)], "act": "text", "content": "0"}
    (number,) = (await caller.control("POST", "acts", act))["pushes"]
    assert (await caller.control("GET", "wait?pushed=1"))["reached"]
    push = (await caller.control("GET", f"pushes?since={number}"))["pushes"][0]
    assert push["state"] == "answered"
    assert [each["status"] for each in push["tries"]] == [500, 302, 200]
    assert len({message.id for message in site.messages()}) == 1
    assert len({query["nonce"] for query, _ in site.came}) == 3


async def test_no_answer_in_time_three_times_is_given_up(caller, site):
    caller.sandbox.change_callback({"timeout_s": 0.1})
    hanging = asyncio.Event()
    site.answers = [hanging.wait] * 3
    await caller.control("POST", "acts", {"openids": [openid(0)], "act": "CLICK", "key": "k"})
    await caller.sandbox.wait_for(pushed=1)
    (push,) = caller.sandbox.pusher.find(0, 10)
    assert push["state"] == "given_up"
    assert [each["error"] for each in push["tries"]] == ["no answer in time"] * 3
    assert all(each["took_s"] >= 0.1 for each in push["tries"])
    assert len(site.came) == 3


async def test_nobody_listens(caller):
    caller.sandbox.change_callback({"url": "http://127.0.0.1:9/"})
    await caller.template(0)
    await caller.sandbox.wait_for(pushed=1)
    (push,) = caller.sandbox.pusher.find(0, 10)
    assert [each["error"] for each in push["tries"]] == ["ClientConnectorError"] * 3


@pytest.mark.parametrize("mode", ["compatible", "safe"])
async def test_encrypted_there_and_back(caller, site, mode):
    crypto = WeChatCrypto(TOKEN, KEY, caller.sandbox.options.app_id)
    reply = TextReply(source="gh", target=openid(3), content="已取消接收").render()
    site.answers = [crypto.encrypt_message(reply, "n", "1700000000")]
    await caller.control("POST", "callback", {"mode": mode, "aes_key": KEY})
    await caller.control("POST", "acts", {"openids": [openid(3)], "act": "text", "content": "0"})
    await caller.sandbox.wait_for(pushed=1)
    query, body = site.came[0]
    opened = crypto.decrypt_message(body, query["msg_signature"], query["timestamp"], query["nonce"])
    assert parse_message(opened).content == "0"
    (push,) = caller.sandbox.pusher.find(0, 10)
    assert (push["reply_type"], push["reply"], push["wrong"]) == ("text", "已取消接收", "")


async def test_what_a_follower_does_opens_the_window_and_is_pushed(caller, site):
    custom = {"touser": openid(20), "msgtype": "text", "text": {"content": "a"}}
    path = "/cgi-bin/message/custom/send"
    assert (await caller.send(path, custom))["errcode"] == 45015
    await caller.control("POST", "acts", {"openids": [openid(20)], "act": "text", "content": "1"})
    assert (await caller.send(path, custom))["errcode"] == 0
    await caller.control("POST", "acts", {"openids": [openid(20)], "act": "unsubscribe"})
    assert (await caller.send(path, custom))["errcode"] == 43004
    await caller.sandbox.wait_for(pushed=2)
    assert {message.type for message in site.messages()} == {"text", "event"}
    assert await caller.control("POST", "acts", {"openids": [], "act": "text"}, status=400)


async def test_a_mass_message_is_finished_later(caller, site):
    await caller.control("POST", "results", {"mass_delay_s": 3600})
    body = {"touser": [openid(0), openid(1)], "msgtype": "text", "text": {"content": "a"}}
    answer = await caller.send(MASS, body)
    ask = {"msg_id": answer["msg_id"]}
    assert (await caller.send("/cgi-bin/message/mass/get", ask))["msg_status"] == "SENDING"
    assert caller.sandbox.summary()["pushes"]["ended"] == 0
    await caller.sandbox.advance(3600)
    await caller.sandbox.wait_for(pushed=1)
    (message,) = site.messages()
    assert (message.event, message.status) == ("masssendjobfinish", "send success")
    assert (int(message.id), message.total_count, message.sent_count) == (answer["msg_id"], 2, 2)
    assert (await caller.send("/cgi-bin/message/mass/get", ask))["msg_status"] == "SEND_SUCCESS"


async def test_the_url_is_verified_as_when_it_is_entered(caller):
    assert (await caller.control("POST", "callback/verify"))["verified"]
    await caller.control("POST", "callback", {"url": caller.sandbox.url})
    refused = await caller.control("POST", "callback/verify")
    assert (refused["verified"], refused["status"]) == (False, 200)


async def test_quotas_and_callback_by_the_control(caller):
    quotas = await caller.control("POST", "quotas", {"custom": 7, "template": {"per_minute": 2}})
    assert quotas["endpoints"]["custom"]["daily"] == 7
    assert quotas["endpoints"]["template"]["per_minute"] == 2
    await caller.control("POST", "quotas", {"sms": 1}, status=400)
    await caller.control("POST", "callback", {"mode": "safe"}, status=400)
    await caller.control("POST", "results", {"template": {"x": 2}}, status=400)
    assert (await caller.control("GET", "callback"))["mode"] == "plain"
    changed = {"openids": [openid(0)], "consents": {"T": 2}}
    assert (await caller.control("POST", "followers", changed))["followers"][0]["consents"] == {"T": 2}


async def test_without_a_callback_nothing_is_pushed(caller, site):
    await caller.control("POST", "callback", {"url": ""})
    await caller.template(0)
    acted = await caller.control("POST", "acts", {"openids": [openid(0)], "act": "text", "content": "0"})
    assert acted == {"pushes": []}
    assert caller.sandbox.summary()["pushes"]["pushed"] == 0


async def test_a_reset_forgets_pushes_and_goes_back_to_the_first_callback(caller, site):
    await caller.control("POST", "callback", {"url": ""})
    await caller.control("POST", "reset")
    await caller.template(0)
    await caller.sandbox.wait_for(pushed=1)
    assert len(site.came) == 1


async def test_three_hundred_pushes_a_second(caller, site):
    loop = asyncio.get_running_loop()
    began = loop.time()
    everybody = [openid(number % 20) for number in range(1500)]
    await caller.control("POST", "acts", {"openids": everybody, "act": "text", "content": "0"})
    await caller.sandbox.wait_for(pushed=1500)
    took_s = loop.time() - began
    assert len(site.came) == 1500
    assert caller.sandbox.summary()["pushes"]["by_kind"]["text"]["tries"] == 1500
    assert 1500 / took_s >= 300


async def test_closing_does_not_wait_for_pushes(site):
    hanging = asyncio.Event()
    site.answers = [hanging.wait] * 3
    async with running_sandbox(options_of(site)) as sandbox:
        sandbox.act({"openids": [openid(0)], "act": "text", "content": "0"})
        await site.seen.wait()
