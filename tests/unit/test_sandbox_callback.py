"""Signatures, encryption in both directions with wechatpy, events as XML, replies as WeChat reads them."""

import warnings
from urllib.parse import parse_qsl, urlsplit

import pytest
from bed.sandbox_account import NOW, TEMPLATE, Account, template
from defusedxml.ElementTree import fromstring

from broadcastd.sandbox import openid
from broadcastd.sandbox.acts import Act, Acts
from broadcastd.sandbox.callback import Callback, callback_spec
from broadcastd.sandbox.crypto import Crypto, signature
from broadcastd.sandbox.replies import PassiveReply, read_reply

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from wechatpy import parse_message
    from wechatpy.crypto import WeChatCrypto
    from wechatpy.exceptions import InvalidAppIdException
    from wechatpy.replies import TextReply
    from wechatpy.utils import check_signature

APP_ID = "wx0000000000000001"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
TOKEN = "AAAAA"


def test_the_vector_of_the_reference():
    signed = signature(TOKEN, "1714037059", "486452656")
    assert signed == "899cf89e464efb63f54ddac96b0a0a235f53aa78"


@pytest.mark.parametrize("text", ["", "a", "求購" * 5, "x" * 31, "x" * 32, "x" * 5000])
def test_what_is_encrypted_is_decrypted(text):
    crypto = Crypto(KEY, APP_ID)
    assert crypto.decrypt(crypto.encrypt(text)) == text
    assert crypto.encrypt(text) != crypto.encrypt(text)


def test_what_cannot_be_decrypted_is_a_value_error():
    sealed = Crypto(KEY, APP_ID).encrypt("text")
    with pytest.raises(ValueError, match="another appid"):
        Crypto(KEY, "wxother").decrypt(sealed)
    for wrong in ("", "no base64!", sealed[:20], sealed[:-24], "QUJD", "中文"):
        with pytest.raises(ValueError, match="cannot be decrypted"):
            Crypto(KEY, APP_ID).decrypt(wrong)
    with pytest.raises(ValueError, match="cannot be decrypted"):
        Crypto(KEY[::-1], APP_ID).decrypt(sealed)


@pytest.mark.parametrize("key", ["", "short", "!" * 43])
def test_a_key_that_is_none(key):
    with pytest.raises(ValueError, match="aes_key"):
        callback_spec({"url": "http://x/", "mode": "safe", "aes_key": key})


@pytest.mark.parametrize(
    "wrong", [{"url": "ftp://x"}, {"mode": "loud"}, {"tries": 0}, {"port": 1}, {"timeout_s": 0}]
)
def test_a_wrong_callback_is_named_in_one_line(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
        callback_spec(wrong)
    assert "\n" not in str(caught.value)


def callback_of(mode):
    return Callback(
        callback_spec({"url": "http://x/w?a=b", "token": TOKEN, "aes_key": KEY, "mode": mode}), APP_ID
    )


def event_of(openid_="oX", **act):
    account = Account(inside=1)
    (event,) = Acts(account.wechat.account).do(Act(openids=[openid_], **act), NOW)
    return event


@pytest.mark.parametrize("mode", ["plain", "compatible", "safe"])
@pytest.mark.parametrize("content", ["0", "求購 & <b> ]]> \n 😀", "]]>"])
def test_wechatpy_reads_a_push(mode, content):
    request = callback_of(mode).request(event_of(act="text", content=content), NOW)
    query = dict(parse_qsl(urlsplit(request.url).query))
    assert query.pop("a") == "b"
    check_signature(TOKEN, query["signature"], query["timestamp"], query["nonce"])
    xml = request.body
    assert (b"<Encrypt>" in xml) == (mode != "plain") == ("msg_signature" in query)
    assert (b"<FromUserName>" in xml) == (mode != "safe")
    if mode != "plain":
        assert query["encrypt_type"] == "aes"
        crypto = WeChatCrypto(TOKEN, KEY, APP_ID)
        xml = crypto.decrypt_message(xml, query["msg_signature"], query["timestamp"], query["nonce"])
        with pytest.raises(InvalidAppIdException):
            WeChatCrypto(TOKEN, KEY, "wxother").decrypt_message(
                request.body, query["msg_signature"], query["timestamp"], query["nonce"]
            )
    message = parse_message(xml)
    assert (message.source, message.target, message.type) == ("oX", "gh_5a4db0c50001", "text")
    assert message.content == content
    assert message.id > 2**53
    assert message.create_time.timestamp() == NOW


@pytest.mark.parametrize("mode", ["plain", "compatible", "safe"])
def test_a_reply_of_wechatpy_is_read(mode):
    event = event_of(act="text", content="0")
    reply = TextReply(source=event.user_name, target="oX", content="已取消\n接收").render()
    callback = callback_of(mode)
    if mode != "plain":
        reply = WeChatCrypto(TOKEN, KEY, APP_ID).encrypt_message(reply, "123", "1700000000")
    assert callback.read(reply.encode(), event) == PassiveReply("text", "已取消\n接收")


PLAIN_REPLY = (
    "<xml><ToUserName>oX</ToUserName><FromUserName>gh</FromUserName><CreateTime>1</CreateTime>"
    "<MsgType>text</MsgType><Content>{}</Content></xml>"
)


@pytest.mark.parametrize(
    ("mode", "body", "wrong"),
    [
        ("plain", b"", ""),
        ("safe", b"success", ""),
        ("plain", b" success\n", ""),
        ("plain", b'{"errcode":0}', "neither success"),
        ("plain", b"\xff\xfe", "neither success"),
        ("plain", b"<!DOCTYPE x [<!ENTITY a 'b'>]><xml>&a;</xml>", "neither success"),
        ("plain", PLAIN_REPLY.format("ok").encode(), ""),
        ("compatible", PLAIN_REPLY.format("ok").encode(), ""),
        ("plain", PLAIN_REPLY.format("").encode(), "no Content"),
        ("plain", PLAIN_REPLY.format("ok").replace("oX", "oY").encode(), "ToUserName"),
        ("safe", PLAIN_REPLY.format("ok").encode(), "not encrypted"),
        ("plain", b"<xml><Encrypt>a</Encrypt></xml>", "does not ask"),
        ("safe", b"<xml><Encrypt>a</Encrypt></xml>", "MsgSignature"),
    ],
)
def test_what_the_user_would_see(mode, body, wrong):
    reply = callback_of(mode).read(body, event_of(act="text", content="0"))
    assert wrong in reply.wrong
    assert bool(wrong) == bool(reply.wrong)


def test_a_well_signed_reply_that_is_not_ours():
    sealed = Crypto(KEY, "wxother").encrypt(PLAIN_REPLY.format("ok"))
    body = (
        f"<xml><Encrypt>{sealed}</Encrypt><MsgSignature>{signature(TOKEN, '1', '2', sealed)}</MsgSignature>"
        "<TimeStamp>1</TimeStamp><Nonce>2</Nonce></xml>"
    )
    assert read_reply(body.encode(), "oX", TOKEN, Crypto(KEY, APP_ID)).wrong == "encrypted for another appid"


def parsed(**act):
    event = event_of(**act)
    return parse_message(event.xml()), fromstring(event.xml())


def test_events_of_menu_and_codes():
    click, _ = parsed(act="CLICK", key="信息查詢")
    assert (click.event, click.key) == ("click", "信息查詢")
    view, _ = parsed(act="VIEW", key="https://example.com/?a=1&b=2")
    assert (view.event, view.url) == ("view", "https://example.com/?a=1&b=2")
    scan, _ = parsed(act="SCAN", key="123")
    assert (scan.event, scan.scene_id, scan.ticket) == ("scan", "123", "sandbox-ticket")
    follow, xml = parsed(act="subscribe")
    assert follow.event == "subscribe"
    assert xml.find("EventKey") is None
    by_code, _ = parsed(act="subscribe", key="123")
    assert (by_code.event, by_code.scene_id) == ("subscribe_scan", "123")
    assert parsed(act="unsubscribe")[0].event == "unsubscribe"


def test_events_about_consent():
    _, xml = parsed(act="subscribe_msg_popup_event", template_id="T")
    assert xml.findtext("SubscribeMsgPopupEvent/List/TemplateId") == "T"
    assert xml.findtext("SubscribeMsgPopupEvent/List/SubscribeStatusString") == "accept"
    assert xml.findtext("SubscribeMsgPopupEvent/List/PopupScene") == "1"
    _, xml = parsed(act="subscribe_msg_change_event", template_id="T", accepts=False)
    assert xml.findtext("SubscribeMsgPopupEvent/List/SubscribeStatusString") == "reject"


@pytest.mark.parametrize(
    "wrong",
    [
        {"act": "dance"},
        {"act": "subscribe_msg_popup_event"},
        {"act": "subscribe_msg_change_event", "template_id": "T"},
    ],
)
def test_what_nobody_can_do(wrong):
    with pytest.raises(ValueError, match=r"act|template_id|accepts"):
        Act(openids=["oX"], **wrong)


def test_acts_change_what_the_account_knows():
    account = Account(outside=2)
    acts, state = Acts(account.wechat.account), account.wechat.account

    def do(**act):
        acts.do(Act(openids=[openid(0)], **act), NOW)
        return state.followers.describe(0, NOW)

    assert not do(act="VIEW", key="https://example.com")["window_open"]
    assert do(act="CLICK", key="k")["window_left_s"] == 60
    assert do(act="text", content="1")["window_left_s"] == 48 * 3600
    assert do(act="unsubscribe")["standing"] == "left"
    assert do(act="subscribe")["standing"] == "follows"
    for accepts, left in ((True, 1), (True, 2), (False, 0)):
        do(act="subscribe_msg_popup_event", template_id="T", accepts=accepts)
        assert state.consents.left(0, "T") == left


def sent(**results):
    account = Account(inside=1, consents=9, results=results)
    account.wechat.account.results.are_told = True
    return account


@pytest.mark.parametrize("status", ["success", "failed:user block", "failed: system failed"])
def test_a_template_message_is_followed_by_its_event(status):
    account = sent(template={} if status == "success" else {status: 1}, delay_s=2)
    answer = account.ask(TEMPLATE, template(openid(0)))
    (event,) = account.reply.events
    message = parse_message(event.xml())
    assert (message.event, message.status, event.at) == ("templatesendjobfinish", status, NOW + 2)
    assert int(message.id) == answer["msgid"]
    assert message.source == openid(0)
    assert account.last.delivered == (status == "success")


def test_a_repeated_message_has_no_event_and_a_msgid_can_be_zero():
    account = sent(zero_msgid=True)
    account.ask(TEMPLATE, template(openid(0)))
    assert account.reply.events[0].fields["MsgID"] > 2**53
    account.ask(TEMPLATE, template(openid(0), client_msg_id="a"))
    assert account.reply.events[0].fields["MsgID"] == 0
    account.ask(TEMPLATE, template(openid(0), client_msg_id="a"))
    assert account.reply.events == ()


def test_a_subscribe_message_is_followed_by_its_event():
    account = sent()
    path = "/cgi-bin/message/subscribe/bizsend"
    answer = account.ask(path, template(openid(0)))
    xml = fromstring(account.reply.events[0].xml())
    inside = {each.tag: each.text for each in xml.find("SubscribeMsgSentEvent/List")}
    assert xml.findtext("Event") == "subscribe_msg_sent_event"
    assert inside == {
        "TemplateId": "T",
        "MsgID": str(answer["msgid"]),
        "ErrorCode": "0",
        "ErrorStatus": "success",
    }
    account.wechat.account.results.change({"subscribe": {"43101:user refuse": 1}})
    account.ask(path, template(openid(0)))
    xml = fromstring(account.reply.events[0].xml())
    assert xml.findtext("SubscribeMsgSentEvent/List/ErrorCode") == "43101"
    assert not account.last.delivered


@pytest.mark.parametrize(
    "wrong", [{"template": {"x": 2}}, {"subscribe": {"x": 1}}, {"delay_s": -1}, {"sms": 1}]
)
def test_a_wrong_result_is_named_in_one_line(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
        Account(results=wrong)
    assert "\n" not in str(caught.value)


def test_statuses_keep_their_shares():
    account = sent(template={"failed:user block": 0.2, "failed: system failed": 0.1})
    drawn = [account.wechat.account.results.draw("template") for _ in range(10_000)]
    assert 1800 < drawn.count("failed:user block") < 2200
    assert 850 < drawn.count("failed: system failed") < 1150
