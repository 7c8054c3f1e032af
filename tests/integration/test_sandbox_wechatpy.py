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
