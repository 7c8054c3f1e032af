"""wechatpy, a client that others wrote, drives the sandbox (reference, section 10)."""

import asyncio
import warnings

import pytest

from broadcastd.sandbox import Options, openid, running_sandbox

with warnings.catch_warnings():
    # wechatpy 1.8.18 is of 2021; what its imports deprecate is not ours.
    warnings.simplefilter("ignore", DeprecationWarning)
    from wechatpy.client import WeChatClient
    from wechatpy.exceptions import APILimitedException, WeChatClientException

# The old `_post` of wechatpy warns of itself at each template.
pytestmark = pytest.mark.filterwarnings("ignore:`_post` method of `WeChatClient`:DeprecationWarning")


def client_of(sandbox, secret=None):
    class Client(WeChatClient):
        API_BASE_URL = sandbox.url + "/cgi-bin/"

        def fetch_access_token(self):
            asked = {"grant_type": "client_credential", "appid": self.appid, "secret": self.secret}
            return self._fetch_access_token(url=self.API_BASE_URL + "token", params=asked)

    return Client(sandbox.options.app_id, secret or sandbox.options.app_secret)


@pytest.fixture
async def sandbox():
    async with running_sandbox(Options(inside=1, outside=1)) as running:
        yield running


@pytest.fixture
async def client(sandbox):
    made = client_of(sandbox)
    yield made
    made._http.close()


async def test_token_text_and_template(sandbox, client):
    assert (await asyncio.to_thread(client.fetch_access_token))["expires_in"] == 7200
    assert client.access_token == sandbox.token
    sent = await asyncio.to_thread(client.message.send_text, openid(0), "求購信息 😀")
    assert sent == {"errcode": 0, "errmsg": "ok"}
    data = {"keyword1": {"value": "求購信息", "color": "#173177"}}
    sent = await asyncio.to_thread(client.message.send_template, openid(1), "T", data, "https://example.com")
    assert sent["msgid"] > 2**53
    assert [call["text"] for call in sandbox.calls()[1:2]] == ["求購信息 😀"]
    assert dict(sandbox.deliveries()) == {openid(0): 1, openid(1): 1}


async def test_refusals_become_its_exceptions(sandbox, client):
    with pytest.raises(WeChatClientException) as caught:
        await asyncio.to_thread(client.message.send_text, openid(1), "a")
    assert caught.value.errcode == 45015
    await sandbox.behave({"errors": {"45009": 1}})
    with pytest.raises(APILimitedException):
        await asyncio.to_thread(client.message.send_text, openid(0), "a")


@pytest.mark.parametrize("end", ["expire", "invalidate"])
async def test_it_gets_a_new_token_and_goes_on(sandbox, client, end):
    await asyncio.to_thread(client.message.send_text, openid(0), "a")
    getattr(sandbox.tokens, end)(sandbox.now())
    await asyncio.to_thread(client.message.send_text, openid(0), "b")
    refused = "42001" if end == "expire" else "40001"
    assert sandbox.summary()["by_endpoint"] == {"token": {"0": 2}, "custom": {"0": 2, refused: 1}}


async def test_a_wrong_secret(sandbox):
    client = client_of(sandbox, secret="wrong")
    with pytest.raises(WeChatClientException) as caught:
        await asyncio.to_thread(client.fetch_access_token)
    assert caught.value.errcode == 40125
    client._http.close()


async def test_an_answer_that_is_no_answer(sandbox, client):
    await sandbox.behave({"outages": [{"kind": "http_502", "endpoint": "custom"}]})
    with pytest.raises(WeChatClientException) as caught:
        await asyncio.to_thread(client.message.send_text, openid(0), "a")
    assert caught.value.errcode is None


async def test_a_mass_message_and_its_status(sandbox, client):
    def send(client_msg_id):
        openids = [openid(0), openid(1)]
        return client.message.send_mass_text(openids, "求購信息", client_msg_id=client_msg_id)

    sent = await asyncio.to_thread(send, "job-1")
    assert dict(sandbox.deliveries()) == {openid(0): 1, openid(1): 1}
    await sandbox.advance(60)
    status = await asyncio.to_thread(client.message.get_mass, sent["msg_id"])
    assert status == {"msg_id": sent["msg_id"], "msg_status": "SEND_SUCCESS"}
    with pytest.raises(WeChatClientException) as caught:
        await asyncio.to_thread(send, "job-1")
    assert caught.value.errcode == 45065
    with pytest.raises(WeChatClientException) as caught:
        await asyncio.to_thread(client.message.send_mass_text, [openid(0)], "a")
    assert caught.value.errcode == 40130


async def test_a_subscribe_message(sandbox, client):
    data = {"thing1": {"value": "求購信息"}}
    with pytest.raises(WeChatClientException) as caught:
        await asyncio.to_thread(client.message.send_subscribe_message, openid(0), "T", data)
    assert caught.value.errcode == 43101
    sandbox.act({"openids": [openid(0)], "act": "subscribe_msg_popup_event", "template_id": "T"})
    sent = await asyncio.to_thread(client.message.send_subscribe_message, openid(0), "T", data)
    assert sent["msgid"] > 2**53


@pytest.mark.parametrize("named", [True, False])
async def test_all_followers_over_two_pages(named):
    options = Options(inside=10_003, unfollowed=2, last_next_openid=named)
    async with running_sandbox(options) as sandbox:
        client = client_of(sandbox)
        found = await asyncio.to_thread(lambda: list(client.user.iter_followers()))
        assert found == [openid(number) for number in range(10_003)]
        assert sandbox.summary()["by_endpoint"]["user_get"] == {"0": 3 if named else 2}
        client._http.close()


async def test_quotas_and_their_reset(sandbox, client):
    await asyncio.to_thread(client.message.send_text, openid(0), "a")
    asked = {"cgi_path": "/cgi-bin/message/custom/send"}
    answer = await asyncio.to_thread(client.post, "openapi/quota/get", data=asked)
    assert answer["quota"] == {"daily_limit": 500_000, "used": 1, "remain": 499_999}
    await asyncio.to_thread(client.post, "clear_quota", data={"appid": client.appid})
    answer = await asyncio.to_thread(client.post, "openapi/quota/get", data=asked)
    assert answer["quota"]["used"] == 0


async def test_the_addresses_that_push(client):
    assert await asyncio.to_thread(client.misc.get_wechat_ips) == ["127.0.0.1"]
