"""What channels make of a frame: texts, templates, keywords. Nobody is called."""

from datetime import UTC, datetime

import orjson
import pytest

from broadcastd.channels import CHANNELS
from broadcastd.channels.wechat import WechatApi
from broadcastd.model import Request
from broadcastd.ports import Rendered
from broadcastd.settings import AccountSettings, HttpSettings
from broadcastd.transports import open_transport

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
KEYWORD_CHANNELS = ["template", "subscribe"]
ACCOUNT = {
    "audience": {"url": "sqlite:///none.db"},
    "custom": {"text": "{content}!"},
    "template": {"template_id": "T1", "data": {"keyword1": "{content}"}},
    "subscribe": {"template_id": "S1", "data": {"keyword1": "{content}", "time2": "{now}"}},
}
SECTIONS = {"template": "templates", "subscribe": "subscriptions"}
REPAIR = {"template_id": "R1", "data": {"thing1": "{content}"}, "miniprogram": {"appid": "wx1"}}


@pytest.fixture(params=CHANNELS)
def name(request):
    return request.param


@pytest.fixture
async def make():
    """A channel of an account with these settings."""
    api = WechatApi("http://127.0.0.1:1", open_transport(HttpSettings(), 1))
    yield lambda name, **changes: CHANNELS[name](api, AccountSettings.model_validate({**ACCOUNT, **changes}))
    await api.close()


def rendered_body(channel, request):
    return orjson.loads(channel.render(request, NOW).text)


@pytest.mark.parametrize("name", KEYWORD_CHANNELS)
async def test_a_frame_picks_a_template_by_its_name_or_id(make, name):
    copy = {"template_id": "R1", "data": {"thing1": "another"}}
    channel = make(name, **{SECTIONS[name]: {"repair": REPAIR, "again": copy}})
    default = ACCOUNT[name]["template_id"]
    assert channel.templates == (default, "repair", "again", "R1")
    for asked in ("repair", "R1"):
        assert rendered_body(channel, Request("x", template=asked)) == {
            "template_id": "R1", "miniprogram": {"appid": "wx1"}, "data": {"thing1": {"value": "x"}},
        }  # fmt: skip
    assert rendered_body(channel, Request("x", template="again"))["data"] == {"thing1": {"value": "another"}}
    for asked in (None, default):
        assert rendered_body(channel, Request("x", template=asked))["template_id"] == default


@pytest.mark.parametrize("name", KEYWORD_CHANNELS)
async def test_another_channels_template_and_its_data_are_none_of_this_one(make, name):
    channel = make(name)
    asked = Request("x", template="elsewhere", extra={"thing1": "", "keyword1": "y"})
    assert channel.render(asked, NOW) == channel.render(Request("x"), NOW)


@pytest.mark.parametrize("name", KEYWORD_CHANNELS)
async def test_a_frames_data_adds_and_replaces_and_is_taken_as_it_is(make, name):
    data = rendered_body(make(name), Request("x", extra={"keyword1": "{content} {", "thing9": "y"}))["data"]
    assert (data["keyword1"], data["thing9"]) == ({"value": "{content} {"}, {"value": "y"})


@pytest.mark.parametrize("name", KEYWORD_CHANNELS)
async def test_what_is_changed_is_said_with_its_keyword(make, name):
    channel = make(name)
    rendered = channel.render(Request("x", extra={"thing1": "信" * 21, "thing2": "a\nb\U0001f600"}), NOW)
    assert rendered.warnings == (
        f"{name} data thing1: cut to 20 characters",
        f"{name} data thing2: line breaks became spaces",
        f"{name} data thing2: emoji removed",
    )
    data = orjson.loads(rendered.text)["data"]
    assert (data["thing1"]["value"], data["thing2"]["value"]) == ("信" * 19 + "…", "a b")


async def test_only_template_messages_hide_what_is_long(make):
    asked = Request("信" * 21)
    assert make("template").render(asked, NOW).warnings == (
        "template data keyword1: WeChat shows its first 20 characters",
    )
    assert make("subscribe").render(asked, NOW).warnings == ()


@pytest.mark.parametrize("name", KEYWORD_CHANNELS)
async def test_a_value_that_was_not_approved_is_refused(make, name):
    one = {**ACCOUNT[name], "approved": {"const3": ["已發佈", "已更新"]}}
    channel = make(name, **{name: one})
    assert rendered_body(channel, Request("x", extra={"const3": "已更新"}))["data"]["const3"]
    with pytest.raises(
        ValueError, match=rf"^{name} data const3 is '新'; accepted \(approved\): 已發佈, 已更新$"
    ):
        channel.render(Request("x", extra={"const3": "新"}), NOW)


async def test_subscribe_body(make):
    whole = {
        **ACCOUNT["subscribe"],
        "page": "pages/post",
        "miniprogram": {"appid": "wx1", "pagepath": "index?foo=bar"},
        "miniprogram_state": "formal",
        "lang": "zh_TW",
    }
    for settings, more in ((whole, {key: whole[key] for key in list(whole)[2:]}), (ACCOUNT["subscribe"], {})):
        channel = make("subscribe", subscribe=settings)
        message = channel.message(channel.render(Request("信"), NOW).text)
        assert orjson.loads(message.body('o"1', "m" * 32)) == {
            "touser": 'o"1', "template_id": "S1", **more,
            "data": {"keyword1": {"value": "信"}, "time2": {"value": "2026-02-01 00:30:00"}},
        }  # fmt: skip


async def test_custom_text_keeps_its_lines_and_takes_neither_template_nor_data(make):
    channel = make("custom")
    assert channel.templates == ()
    assert channel.render(Request("a\r\nb\tc", template="x", extra={"y": "z"}), NOW) == Rendered("a\r\nb\tc!")


async def test_no_escape_is_sent_that_wechat_would_show(make, name):
    channel = make(name)
    rendered = channel.render(Request("a\x00\x1b[1m\x85b"), NOW)
    assert b"\\u" not in channel.message(rendered.text).body("o1", "m")
    if name == "custom":
        assert rendered == Rendered("a[1mb!", ("custom text: control characters removed",))
