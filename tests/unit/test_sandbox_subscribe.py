"""bizsend and consents; typed keywords; user/get; what else the API answers."""

import pytest
from bed.sandbox_account import NOW, TEMPLATE, Account, template

from broadcastd.sandbox import openid
from broadcastd.sandbox.behaviour import Behaviour
from broadcastd.sandbox.endpoints import BY_NAME, BY_PATH
from broadcastd.sandbox.errmsgs import ERRMSGS
from broadcastd.sandbox.questions import OPENIDS_PER_PAGE

BIZSEND = "/cgi-bin/message/subscribe/bizsend"
USER_GET = "/cgi-bin/user/get"


def fields(**values):
    return template(openid(0), data={key: {"value": value} for key, value in values.items()})


def test_one_consent_is_one_message():
    account = Account(inside=1, outside=1, unfollowed=1)
    consents = account.wechat.account.consents
    consents.give(1, "T", 1)
    assert account.errcode(BIZSEND, template(openid(0))) == 43101
    answer = account.ask(BIZSEND, template(openid(1)))
    assert answer["msgid"] > 2**53
    assert account.last.delivered
    assert account.errcode(BIZSEND, template(openid(1))) == 43101
    consents.give(1, "other", 1)
    assert account.errcode(BIZSEND, template(openid(1))) == 43101
    # Who does not follow can consent, too.
    consents.give(2, "T", 1)
    assert account.errcode(BIZSEND, template(openid(2))) == 0
    assert account.errcode(BIZSEND, template("unknown")) == 40003
    assert consents.describe(1) == {"T": 0, "other": 1}


def test_a_refused_body_costs_no_consent():
    account = Account(
        inside=1, consents=1, templates=("T",), errors={"subscribe:-1": {"share": 1, "count": 1}}
    )
    assert account.errcode(BIZSEND, template(openid(0), template_id="X")) == 40037
    assert account.errcode(BIZSEND, template(openid(0), data={})) == 47003
    assert account.errcode(BIZSEND, template(openid(0))) == -1
    assert [account.errcode(BIZSEND, template(openid(0))) for _ in range(2)] == [0, 43101]


@pytest.mark.parametrize(
    ("key", "value", "errcode"),
    [
        ("thing1", "字" * 20, 0),
        ("thing1", "字" * 21, 47003),
        ("thing12", "字" * 21, 47003),
        ("thing", "字" * 21, 0),
        ("character_string2", "A-" * 16, 0),
        ("character_string2", "A-" * 16 + "A", 47003),
        ("character_string2", "甲", 47003),
        ("phone_number3", "1" * 17, 0),
        ("phone_number3", 10**17, 47003),
        ("car_number4", "粤A12345D", 0),
        ("car_number4", "粤A12345DE", 47003),
        ("const5", "求購信息", 0),
        ("const5", "其他", 47003),
        ("time6", "2024-01-01 12:00:00 and more than twenty", 0),
        ("keyword1", "字" * 100, 0),
    ],
)
@pytest.mark.parametrize("path", [TEMPLATE, BIZSEND])
def test_typed_keywords(path, key, value, errcode):
    account = Account(inside=1, consents=1, constants=("求購信息",))
    answer = account.ask(path, fields(other="x", **{key: value}))
    assert answer["errcode"] == errcode
    assert answer["errmsg"].startswith(f"argument invalid! data.{key}.value invalid rid: ") == bool(errcode)


def test_any_const_is_approved_when_none_is_named():
    assert Account(inside=1).errcode(TEMPLATE, fields(const1="其他")) == 0


def pages(account):
    asked, found = "", []
    while True:
        query = f"?access_token=good&next_openid={asked}"
        page = account.ask(USER_GET, b"", method="GET", query=query)
        found.append(page)
        if not page["next_openid"]:
            return found
        asked = page["next_openid"]


def test_user_get_in_pages_with_one_empty_page_at_the_end():
    account = Account(inside=OPENIDS_PER_PAGE + 2, unfollowed=3)
    account.wechat.followers.leave(1)
    first, second, last = pages(account)
    assert first["total"] == OPENIDS_PER_PAGE + 1
    assert first["count"] == len(first["data"]["openid"]) == OPENIDS_PER_PAGE
    assert first["data"]["openid"][:2] == [openid(0), openid(2)]
    assert second["data"]["openid"] == [openid(OPENIDS_PER_PAGE + 1)] == [second["next_openid"]]
    assert last == {"total": OPENIDS_PER_PAGE + 1, "count": 0, "next_openid": ""}


def test_user_get_can_end_with_the_last_page():
    assert [page["count"] for page in pages(Account(inside=2, last_next_openid=False))] == [2]
    (only,) = pages(Account(inside=0, outside=0))
    assert only == {"total": 0, "count": 0, "next_openid": ""}


def test_user_get_after_a_stranger_and_beyond_its_quota():
    account = Account(inside=2, quotas={"user_get": 2})
    query = "?access_token=good&next_openid="
    assert account.errcode(USER_GET, b"", method="GET", query=query + "nobody") == 40003
    assert account.ask(USER_GET, b"", method="GET", query=query + openid(0))["count"] == 1
    assert account.errcode(USER_GET, b"", method="GET") == 45009


@pytest.mark.parametrize("path", ["/cgi-bin/get_api_domain_ip", "/cgi-bin/getcallbackip"])
def test_addresses(path):
    assert Account().ask(path, b"", method="GET") == {"ip_list": ["127.0.0.1"]}
    assert Account().errcode(path, b"", method="GET", query="") == 41001


@pytest.mark.parametrize("errcode", [code for code in sorted(ERRMSGS) if code])
def test_any_errcode_can_be_asked_of_any_endpoint_and_follower(errcode):
    for name, endpoint in BY_NAME.items():
        behaviour = Behaviour()
        behaviour.change({"errors": {f"{name}:{errcode}": 1}}, NOW)
        assert behaviour.error(name, NOW) == errcode
        behaviour.change({"errors": {f"{endpoint.path}:{errcode}": 1}}, NOW)
        assert behaviour.error(name, NOW) == errcode
    account = Account(inside=1, consents=1)
    account.wechat.followers.force(0, errcode)
    answer = account.ask(TEMPLATE, template(openid(0)))
    assert answer["errcode"] == errcode
    assert answer["errmsg"].startswith(ERRMSGS[errcode] + " rid: ")


def test_an_asked_error_strikes_questions_too():
    account = Account(errors={"user_get:-1": 1, "clear_quota_v2:48006": 1})
    assert account.errcode(USER_GET, b"", method="GET") == -1
    assert account.errcode("/cgi-bin/clear_quota/v2", {}, query="") == 48006
    assert len(BY_PATH) == len(BY_NAME)
