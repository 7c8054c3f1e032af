"""Pushes from XML and JSON."""

import contextlib
import json

import pytest
from bed.pushes import ACCOUNT, event, template_finished, text
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.callback.parsing import UnreadablePushError, delivery_of, fields_of, push_of
from broadcastd.pushes import (
    Choice,
    Clicked,
    Delivery,
    MassFinished,
    OtherEvent,
    OtherMessage,
    Scanned,
    SentNotice,
    SubscribeChosen,
    Subscribed,
    SubscribeSent,
    TemplateFinished,
    TextMessage,
    Unsubscribed,
    Viewed,
)


def read(body):
    return push_of(fields_of(body.encode() if isinstance(body, str) else body)[0])


def test_a_text():
    push = read(text("oX", " 0\n", 1234567890123456))
    assert push == TextMessage(
        openid="oX", original_id=ACCOUNT, created_s=1348831860, content=" 0\n",
        dedupe_key="message 1234567890123456",
    )  # fmt: skip


def test_a_text_without_cdata_and_with_references():
    body = (
        "<?xml version='1.0' encoding='UTF-8'?>\n<xml>\n <ToUserName>gh_x</ToUserName> <FromUserName>oX"
        "</FromUserName><CreateTime>1</CreateTime><MsgType>text</MsgType><Content>&lt;0&gt;</Content>"
        "<MsgId>7</MsgId></xml>"
    )
    assert read(body).content == "<0>"


def test_a_text_as_json():
    body = {
        "ToUserName": "gh_x", "FromUserName": "oX", "CreateTime": 1348831860, "MsgType": "text",
        "Content": "０", "MsgId": 2**62,
    }  # fmt: skip
    push = read(json.dumps(body))
    assert (push.content, push.dedupe_key, push.created_s) == ("０", f"message {2**62}", 1348831860)


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("subscribe", "<EventKey></EventKey>", Subscribed),
        ("subscribe", "<EventKey><![CDATA[qrscene_1]]></EventKey><Ticket>T</Ticket>", Subscribed),
        ("unsubscribe", "", Unsubscribed),
        ("CLICK", "<EventKey><![CDATA[M1]]></EventKey>", Clicked),
        ("click", "<EventKey><![CDATA[M1]]></EventKey>", Clicked),
        ("scancode_waitmsg", "<EventKey><![CDATA[M1]]></EventKey>", Clicked),
        ("SCAN", "<EventKey><![CDATA[M1]]></EventKey>", Scanned),
        ("VIEW", "<EventKey><![CDATA[http://x/]]></EventKey>", Viewed),
        ("LOCATION", "<Latitude>1</Latitude>", OtherEvent),
        ("", "", OtherEvent),
    ],
)  # fmt: skip
def test_events(name, more, expected):
    push = read(event("oX", name, more))
    assert type(push) is expected
    assert push.openid == "oX"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("success", Delivery.DELIVERED),
        ("failed:user block", Delivery.BLOCKED),
        ("failed: user block", Delivery.BLOCKED),
        ("failed:userblock", Delivery.BLOCKED),
        ("failed: system failed", Delivery.FAILED),
        ("failed:system failed", Delivery.FAILED),
        ("failed:freq limit", Delivery.FAILED),
        ("failed:something new", Delivery.FAILED),
        ("", Delivery.FAILED),
    ],
)
def test_statuses(status, expected):
    assert delivery_of(status) is expected
    assert read(template_finished("oX", 200163836, status)).delivery is expected


def test_a_template_message_that_ended():
    push = read(template_finished("oX", 3557254367693750277))
    assert isinstance(push, TemplateFinished)
    assert push.msgid == 3557254367693750277
    assert push.dedupe_key == "templatesendjobfinish oX 1395658920 3557254367693750277"


@pytest.mark.parametrize("msgid", ["0", "", "-5", "1e3", "99999999999999999999999", "9" * 5000, "x", "٣"])
def test_a_number_that_is_none_of_wechats(msgid):
    body = event("oX", "TEMPLATESENDJOBFINISH", f"<MsgID>{msgid}</MsgID><Status>success</Status>")
    assert read(body).msgid == 0


def test_a_mass_message_that_ended():
    more = (
        "<MsgID>1000000003</MsgID><Status><![CDATA[send success]]></Status><TotalCount>296</TotalCount>"
        "<FilterCount>295</FilterCount><SentCount>294</SentCount><ErrorCount>1</ErrorCount>"
        "<CopyrightCheckResult><Count>0</Count><ResultList></ResultList><CheckState>0</CheckState>"
        "</CopyrightCheckResult>"
    )
    push = read(event("oX", "MASSSENDJOBFINISH", more))
    assert isinstance(push, MassFinished)
    assert (push.msg_id, push.status) == (1000000003, "send success")
    assert (push.total, push.filtered, push.sent, push.errors) == (296, 295, 294, 1)


CHOICES = (Choice("T1", accepted=True), Choice("T2", accepted=False))
XML_ITEMS = (
    "<List><TemplateId><![CDATA[T1]]></TemplateId><SubscribeStatusString><![CDATA[accept]]>"
    "</SubscribeStatusString><PopupScene>2</PopupScene></List>"
    "<List><TemplateId>T2</TemplateId><SubscribeStatusString>reject</SubscribeStatusString></List>"
)


@pytest.mark.parametrize("container", ["SubscribeMsgPopupEvent", "SubscribeMsgChangeEvent"])
@pytest.mark.parametrize("name", ["subscribe_msg_popup_event", "subscribe_msg_change_event"])
def test_choices_in_either_container(name, container):
    push = read(event("oX", name, f"<{container}>{XML_ITEMS}</{container}>"))
    assert isinstance(push, SubscribeChosen)
    assert push.choices == CHOICES


@pytest.mark.parametrize("where", ["List", "SubscribeMsgChangeEvent"])
def test_choices_as_json_one_and_many(where):
    one = {"TemplateId": "T1", "SubscribeStatusString": "accept"}
    two = {"TemplateId": "T2", "SubscribeStatusString": "reject"}
    base = {
        "ToUserName": "gh_x", "FromUserName": "oX", "CreateTime": "1610968440", "MsgType": "event",
        "Event": "subscribe_msg_change_event",
    }  # fmt: skip
    assert read(json.dumps({**base, where: one})).choices == CHOICES[:1]
    assert read(json.dumps({**base, where: [one, two]})).choices == CHOICES
    assert read(json.dumps(base)).choices == ()


def test_notices_that_were_sent():
    more = (
        "<SubscribeMsgSentEvent><List><TemplateId>T1</TemplateId><MsgID>1864323726461255680</MsgID>"
        "<ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List>"
        "<List><TemplateId>T1</TemplateId><MsgID>5</MsgID><ErrorCode>1</ErrorCode>"
        "<ErrorStatus>user block</ErrorStatus></List></SubscribeMsgSentEvent>"
    )
    push = read(event("oX", "subscribe_msg_sent_event", more))
    assert isinstance(push, SubscribeSent)
    assert push.notices == (
        SentNotice("T1", 1864323726461255680, Delivery.DELIVERED),
        SentNotice("T1", 5, Delivery.BLOCKED),
    )


def test_other_messages():
    push = read(text("oX", "").replace("text", "image"))
    assert isinstance(push, OtherMessage)
    assert push.kind == "image"


def test_two_pushes_never_share_a_key_and_tries_of_one_do():
    bodies = [
        text("oX", "0", 1), text("oX", "0", 2), event("oX", "CLICK"), event("oX", "VIEW"),
        event("oY", "CLICK"),
        event("oX", "CLICK", created=2), template_finished("oX", 1), template_finished("oX", 2),
        text("o" * 128, "0", 3).replace("<MsgId>3</MsgId>", ""), text("o" * 127, "0").replace("MsgId", "No"),
    ]  # fmt: skip
    keys = [read(body).dedupe_key for body in bodies]
    assert len(set(keys)) == len(keys)
    assert keys == [read(body).dedupe_key for body in bodies]
    assert max(map(len, keys)) <= 255


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><xml><MsgType>&c;</MsgType></xml>'
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    "<xml><FromUserName>oX</FromUserName><MsgType>text</MsgType><Content>&f;</Content></xml>"
)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"success", b"<xml>", b"<xml/>", b"{", b"{}", b"[]", b"null", b"{\"MsgType\":1}",
        b"\xff\xfe\x00",
        LAUGHS, OUTSIDE, '<!DOCTYPE xml SYSTEM "http://127.0.0.1/x.dtd"><xml><MsgType>text</MsgType></xml>',
        b"<?xml version='1.0' encoding='no-such'?><xml><MsgType>text</MsgType></xml>",
        text("", "0"), text("o" * 129, "0"), text("oX", "0").replace("text", ""), "<a>" * 20000,
        b"{" + b'"a":{' * 10000,
    ],
)  # fmt: skip
def test_what_is_no_push(body):
    with pytest.raises(UnreadablePushError):
        read(body)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(body):
    with contextlib.suppress(UnreadablePushError):
        read(body)


@given(
    st.dictionaries(
        st.sampled_from(
            ["FromUserName", "MsgType", "Event", "MsgID", "List", "Status", "CreateTime", "Content"]
        ),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.text()
            | st.sampled_from(["event", "oX"]),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_no_json_does_more_than_be_refused(fields):
    for name in ("subscribe_msg_sent_event", "MASSSENDJOBFINISH", "TEMPLATESENDJOBFINISH"):
        with contextlib.suppress(UnreadablePushError):
            read(json.dumps({"FromUserName": "oX", "MsgType": "event", "Event": name, **fields}))
