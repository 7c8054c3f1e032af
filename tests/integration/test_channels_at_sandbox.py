"""The channels against the sandbox: what they accept, it takes; what it answers, they read."""

import pytest

from broadcastd.channels import CHANNELS
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import SystemClock
from broadcastd.keywords import KINDS
from broadcastd.model import Request
from broadcastd.outcomes import Answer
from broadcastd.sandbox import Options, running_sandbox
from broadcastd.settings import AccountSettings, HttpSettings
from broadcastd.transports import open_transport

FIRST, LAST = "o-first", "o-last"
VALUES = [
    "", " ", "信" * 30, "x" * 40, "1" * 40, "13800000000 / 13900000000", "粤A8Z888挂", "a\nb", "𠮷" * 15,
    "\U0001f600ok", "2026-02-01 00:30:00", "10.5", "單號，17", "A-17", "e\u0301" * 30, "\x00\x1b", "+-*/%",
    "已支付", "¥100元",
]  # fmt: skip


@pytest.fixture
async def sandbox():
    async with running_sandbox(Options(consents=1, token="tok", templates=("T1", "S1"))) as sandbox:
        yield sandbox


@pytest.fixture
async def channels(sandbox):
    settings = AccountSettings.model_validate(
        {
            "api_base": sandbox.url,
            "audience": {"url": "sqlite:///none.db"},
            "template": {"template_id": "T1"},
            "subscribe": {"template_id": "S1", "page": "pages/post"},
        }
    )
    api = WechatApi(settings.api_base, open_transport(HttpSettings(), 4))
    yield {name: make(api, settings) for name, make in CHANNELS.items()}
    await api.close()


async def ask(channel, openid, **extra):
    rendered = channel.render(Request("a post", extra=extra), SystemClock().now())
    return await channel.attempt(channel.message(rendered.text).body(openid, "m"), "tok", lambda: True)


async def test_a_subscription_message_takes_one_consent_and_has_a_msgid(channels):
    answer = await ask(channels["subscribe"], FIRST, thing1="x")
    assert (answer.errcode, answer.msgid is not None and answer.msgid > 2**53) == (0, True)
    assert (await ask(channels["subscribe"], FIRST, thing1="x")).errcode == 43101
    other = await ask(channels["subscribe"], LAST, thing1="x")
    assert other.msgid not in (None, answer.msgid)


async def test_a_custom_message_has_none(channels):
    assert await ask(channels["custom"], FIRST) == Answer(0, "ok")


async def test_whatever_is_accepted_is_taken(channels):
    accepted = {}
    for kind in KINDS:
        for value in VALUES:
            try:
                answer = await ask(channels["template"], FIRST + str(len(accepted)), **{f"{kind}1": value})
            except ValueError:
                continue
            accepted[kind, value] = answer.errcode
    assert set(accepted.values()) == {0}
    assert {kind for kind, _ in accepted} == KINDS.keys()
