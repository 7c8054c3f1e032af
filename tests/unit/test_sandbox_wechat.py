import json

import pytest
from bed.sandbox_account import CUSTOM, NOW, TEMPLATE, Account, template, text

from broadcastd.sandbox import openid


def test_a_text_arrives():
    account = Account()
    assert account.ask(CUSTOM, text()) == {"errcode": 0, "errmsg": "ok"}
    assert account.last.delivered
    assert account.last.text == "求購信息"
    assert account.last.token_ok


def test_a_template_arrives_with_a_msgid_that_no_float_holds():
    account = Account()
    first, second = account.ask(TEMPLATE, template()), account.ask(TEMPLATE, template())
    assert first["errcode"] == 0
    assert second["msgid"] > first["msgid"] > 2**53
    assert json.loads(account.last.text)["data"]["keyword1"]["value"] == "求購"


@pytest.mark.parametrize(
    ("query", "errcode", "said"),
    [
        ("", 41001, "access_token missing"),
        ("?access_token=", 41001, "access_token missing"),
        ("?access_token=other", 40001, "invalid credential"),
        ("?access_token=a%20b", 40014, "invalid access_token"),
        ("?access_token=good&x=1", 0, "ok"),
        ("?x=1&access_token=good", 0, "ok"),
        ("?access_token=%67ood", 0, "ok"),
    ],
)
def test_the_token_is_looked_at_first(query, errcode, said):
    account = Account()
    answer = account.ask(CUSTOM, text(), query=query)
    assert answer["errcode"] == errcode
    assert answer["errmsg"].startswith(said)
    assert account.last.token_ok == (errcode == 0)
    assert account.wechat.followers.name(account.last.row) == "o1"


def test_an_expired_token_says_exactly_that():
    assert Account().ask(CUSTOM, text(), NOW + 7200)["errmsg"].split(" rid: ")[0] == "access_token expired"


def test_errors_carry_a_rid():
    answer = Account(inside=1).ask(CUSTOM, text())
    said, _, rid = answer["errmsg"].partition(" rid: ")
    assert said == "invalid openid"
    assert [len(part) for part in rid.split("-")] == [8, 8, 8]


@pytest.mark.parametrize("path", [CUSTOM, TEMPLATE])
@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", 44002),
        (b"{", 47001),
        (b"[]", 47001),
        (b"touser=o1", 47001),
        ('{"touser":"求"}'.encode("gbk"), 40033),
    ],
)
def test_a_body_that_is_no_json_object(path, body, errcode):
    assert Account().errcode(path, body) == errcode


def test_get_is_refused():
    assert Account().errcode(CUSTOM, text(), method="GET") == 43002


def test_escaped_characters_are_refused():
    account = Account()
    assert account.errcode(CUSTOM, json.dumps(text()).encode()) == 40033
    assert account.errcode(TEMPLATE, json.dumps(template()).encode()) == 47002
    assert not account.wechat.calls.deliveries.total


def test_a_backslash_before_a_u_and_control_characters_are_no_escapes():
    account = Account()
    assert account.errcode(CUSTOM, text(content="C:\\user\\u6c42 \x07")) == 0
    assert account.last.text == "C:\\user\\u6c42 \x07"


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"msgtype": "smoke"}, 40008),
        ({"msgtype": None}, 40008),
        ({"text": {"content": ""}}, 44004),
        ({"text": {}}, 44004),
        ({"text": "求"}, 44004),
        ({"text": {"content": "求" * 683}}, 45002),
        ({"text": {"content": "a" * 2049}}, 45002),
        ({"text": {"content": "😀" * 513}}, 45002),
        ({"text": {"content": "求" * 682 + "ab"}}, 0),
        ({"text": {"content": "😀" * 512}}, 0),
        ({"touser": ""}, 40003),
        ({"touser": None}, 40003),
        ({"touser": ["o1"]}, 40003),
        ({"touser": "o" * 129}, 40003),
        ({"msgtype": "smoke", "text": {}, "touser": ""}, 40008),
        ({"text": {"content": ""}, "touser": ""}, 44004),
    ],
)
def test_the_checks_of_a_text_in_their_order(change, errcode):
    assert Account().errcode(CUSTOM, text() | change) == errcode


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"template_id": ""}, 40036),
        ({"template_id": None}, 40036),
        ({"template_id": "other"}, 40037),
        ({"touser": ""}, 40003),
        ({"data": None}, 47003),
        ({"data": {}}, 47003),
        ({"data": {"thing1": "text"}}, 47003),
        ({"data": {"thing1": {"value": None}}}, 47003),
        ({"data": {"thing1": {"value": ""}}}, 0),
        ({"url": "https://example.com", "miniprogram": {"appid": "wx1"}}, 0),
    ],
)
def test_the_checks_of_a_template(change, errcode):
    assert Account(templates=("T", "U")).errcode(TEMPLATE, template() | change) == errcode


def test_a_wrong_field_is_named():
    said = Account().ask(TEMPLATE, template(data={"thing1": {}}))["errmsg"]
    assert said.startswith("argument invalid! data.thing1.value invalid rid: ")


def test_deep_nesting_is_answered():
    assert Account().errcode(TEMPLATE, b'{"touser":"o1","data":' + b"[" * 900 + b"]" * 900 + b"}") == 40036


def test_any_template_is_known_when_none_is_given():
    assert Account().errcode(TEMPLATE, template(template_id="whatever")) == 0


def test_allowance_and_window_are_of_custom_only():
    account = Account(inside=1, outside=1)
    assert [account.errcode(CUSTOM, text(openid(0))) for _ in range(6)] == [0, 0, 0, 0, 0, 45047]
    assert account.errcode(CUSTOM, text(openid(1))) == 45015
    assert account.errcode(TEMPLATE, template(openid(0))) == 0
    assert account.errcode(TEMPLATE, template(openid(1))) == 0


def test_strangers_and_those_who_left():
    account = Account(inside=1, unfollowed=1, unfollowed_errcode=45015)
    assert account.errcode(CUSTOM, text("stranger")) == 40003
    assert account.errcode(TEMPLATE, template("stranger")) == 40003
    assert account.errcode(CUSTOM, text(openid(1))) == 45015
    assert account.errcode(TEMPLATE, template(openid(1))) == 43004
    assert Account(unfollowed=1).errcode(CUSTOM, text(openid(0))) == 43004


def test_a_client_msg_id_is_delivered_once_within_ten_minutes():
    account = Account()
    first = account.ask(TEMPLATE, template(client_msg_id="j1-r1"))
    account.ask(TEMPLATE, template("o2", client_msg_id="j1-r1"))
    again = account.ask(TEMPLATE, template(client_msg_id="j1-r1"), NOW + 599)
    assert again == first
    assert account.last.repeat
    assert not account.last.delivered
    assert dict(account.wechat.calls.deliveries) == {0: 1, 1: 1}
    later = account.ask(TEMPLATE, template(client_msg_id="j1-r1"), NOW + 600)
    assert later["msgid"] != first["msgid"]
    assert dict(account.wechat.calls.deliveries) == {0: 2, 1: 1}


def test_ten_minutes_hold_however_much_is_sent_meanwhile():
    account = Account()
    account.ask(TEMPLATE, template("o0", client_msg_id="first"), NOW)
    account.ask(TEMPLATE, template(client_msg_id="a"), NOW + 599)
    account.ask(TEMPLATE, template("o3", client_msg_id="turns"), NOW + 601)
    account.ask(TEMPLATE, template(client_msg_id="a"), NOW + 1198)
    assert account.last.repeat


def test_a_refused_client_msg_id_is_not_remembered():
    account = Account(errors={"-1": {"count": 1}})
    assert account.errcode(TEMPLATE, template(client_msg_id="j1-r1")) == -1
    assert account.errcode(TEMPLATE, template(client_msg_id="j1-r1")) == 0
    assert account.last.delivered


def test_an_error_by_chance_costs_no_allowance():
    account = Account(allowance=1, errors={"45011": {"count": 3}})
    assert [account.errcode(CUSTOM, text()) for _ in range(5)] == [45011, 45011, 45011, 0, 45047]


def test_an_outage_before_the_call_is_looked_at_delivers_nothing():
    account = Account(outages=["hang"])
    reply = account.wechat.ask("POST", CUSTOM + "?access_token=good", json.dumps(text("o9")).encode(), NOW)
    assert reply.outage == "hang"
    assert not account.last.processed
    assert account.wechat.followers.name(account.last.row) == "o9"
    assert not account.wechat.calls.deliveries.total


def test_after_send_delivers_and_then_loses_the_answer():
    account = Account(outages=[{"kind": "reset_after_send", "count": 1}])
    raw = json.dumps(template(client_msg_id="j"), ensure_ascii=False).encode()
    assert account.wechat.ask("POST", TEMPLATE + "?access_token=good", raw, NOW).outage == "reset_after_send"
    assert account.last.delivered
    assert account.errcode(TEMPLATE, raw) == 0
    assert account.last.repeat
    assert account.wechat.calls.deliveries.total == 1


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({}, None),
        ({"grant_type": "refresh"}, 40002),
        ({"grant_type": ""}, 40002),
        ({"appid": ""}, 41002),
        ({"secret": ""}, 41004),
        ({"appid": "wx1"}, 40013),
        ({"secret": "wrong"}, 40125),
    ],
)
def test_credentials(change, errcode):
    account = Account(app_id="wx0", app_secret="s")
    asked = {"grant_type": "client_credential", "appid": "wx0", "secret": "s"} | change
    query = "?" + "&".join(f"{name}={value}" for name, value in asked.items())
    assert account.errcode("/cgi-bin/token", b"", method="GET", query=query) == errcode
    assert account.errcode("/cgi-bin/token", b"", query=query) == errcode
    assert account.errcode("/cgi-bin/stable_token", asked, query="") == errcode


def test_a_token_answer_is_as_documented():
    account = Account(app_id="wx0", app_secret="s")
    asked = {"grant_type": "client_credential", "appid": "wx0", "secret": "s"}
    first = account.ask("/cgi-bin/stable_token", asked, query="")
    assert set(first) == {"access_token", "expires_in"}
    assert first["expires_in"] == 7200
    later = account.ask("/cgi-bin/stable_token", asked, NOW + 200, query="")
    assert later == {"access_token": first["access_token"], "expires_in": 7000}
    forced = account.ask("/cgi-bin/stable_token", asked | {"force_refresh": True}, NOW + 200, query="")
    assert forced["access_token"] != first["access_token"]
    sent = account.ask(CUSTOM, text(), NOW + 200, query=f"?access_token={first['access_token']}")
    assert sent["errcode"] == 40001


def test_stable_token_wants_a_post():
    assert Account().errcode("/cgi-bin/stable_token", b"", method="GET", query="") == 43002
    assert Account().errcode("/cgi-bin/stable_token", b"", query="") == 44002


def test_another_path_is_no_url_of_the_service():
    account = Account()
    assert account.errcode("/cgi-bin/message/mass/sendall", {}) == 40066
    assert account.last.endpoint == "unknown"
