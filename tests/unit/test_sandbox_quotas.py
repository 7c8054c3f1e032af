"""Quotas: daily and by the minute, their answer, their reset."""

from datetime import UTC, datetime

import pytest
from bed.sandbox_account import CUSTOM, NOW, TEMPLATE, Account, template, text

from broadcastd.sandbox import Options
from broadcastd.sandbox.endpoints import BY_NAME
from broadcastd.sandbox.quotas import Quotas, midnight_after

QUOTA_GET = "/cgi-bin/openapi/quota/get"
CLEAR = "/cgi-bin/clear_quota"
TOKEN = "/cgi-bin/token"
OPTIONS = Options()
CREDENTIALS = f"?grant_type=client_credential&appid={OPTIONS.app_id}&secret={OPTIONS.app_secret}"


def at(text):
    return datetime.fromisoformat(text).timestamp()


def test_the_day_ends_at_midnight_in_shanghai():
    assert midnight_after(at("2026-07-01T15:59:59+00:00")) == at("2026-07-02T00:00:00+08:00")
    assert midnight_after(at("2026-07-01T16:00:00+00:00")) == at("2026-07-03T00:00:00+08:00")


def test_beyond_the_daily_quota_nothing_is_sent_until_midnight():
    account = Account(quotas={"custom": 2}, expires_in_s=10**6)
    assert [account.errcode(CUSTOM, text()) for _ in range(3)] == [0, 0, 45009]
    assert account.ask(CUSTOM, text())["errmsg"].startswith("reach max api daily quota limit")
    assert not account.last.delivered
    assert account.errcode(TEMPLATE, template()) == 0
    midnight = midnight_after(NOW)
    assert account.errcode(CUSTOM, text(), now=midnight - 1) == 45009
    assert account.errcode(CUSTOM, text(), now=midnight) == 0


def test_a_bad_token_or_method_costs_no_quota_and_a_bad_body_does():
    account = Account(quotas={"custom": 1})
    assert account.errcode(CUSTOM, text(), query="?access_token=other") == 40001
    assert account.errcode(CUSTOM, text(), method="GET") == 43002
    assert account.errcode(CUSTOM, b"") == 44002
    assert account.errcode(CUSTOM, text()) == 45009


def test_the_minute_limit_is_over_with_the_minute():
    account = Account(quotas={"custom": {"per_minute": 1}})
    minute = NOW - NOW % 60
    assert account.errcode(CUSTOM, text(), now=minute) == 0
    assert account.errcode(CUSTOM, text(), now=minute + 59) == 45011
    assert account.errcode(CUSTOM, text(), now=minute + 60) == 0
    answer = account.ask(QUOTA_GET, {"cgi_path": CUSTOM}, now=minute + 61)
    assert answer["quota"]["used"] == 2
    assert answer["rate_limit"] == {"call_count": 1, "refresh_second": 60}


def test_quota_get_says_what_is_left():
    account = Account()
    account.errcode(CUSTOM, text())
    assert account.ask(QUOTA_GET, {"cgi_path": CUSTOM}) == {
        "errcode": 0,
        "errmsg": "ok",
        "quota": {"daily_limit": 500_000, "used": 1, "remain": 499_999},
    }
    assert account.errcode(QUOTA_GET, {"cgi_path": "/cgi-bin/none"}) == 76021
    assert account.errcode(QUOTA_GET, {"cgi_path": [1]}) == 76021
    assert account.errcode(QUOTA_GET, {}) == 76021


@pytest.mark.parametrize(
    ("followers", "daily"), [(100_000, 100_000), (100_001, 1_000_000), (1_000_001, 10_000_000)]
)
def test_more_followers_more_templates(followers, daily):
    assert Quotas(followers, NOW).answer(TEMPLATE, NOW)["quota"]["daily_limit"] == daily


def test_clear_quota_ten_times_a_month():
    account = Account(quotas={"custom": 1})
    july, august = at("2026-07-31T12:00:00+08:00"), at("2026-08-01T00:00:00+08:00")
    # The first token of the account is too old by then.
    account.wechat.tokens.expire(NOW)
    query = f"?access_token={account.wechat.tokens.stable(july, False).text}"
    body = {"appid": OPTIONS.app_id}
    account.wechat.tokens.expires_in_s = 10**6
    assert account.errcode(CUSTOM, text(), now=july, query=query) == 0
    assert account.errcode(CUSTOM, text(), now=july, query=query) == 45009
    assert [account.errcode(CLEAR, body, now=july, query=query) for _ in range(11)] == [0] * 10 + [48006]
    assert account.errcode(CUSTOM, text(), now=july, query=query) == 0
    renewed = f"?access_token={account.wechat.tokens.stable(august, False).text}"
    assert account.errcode(CLEAR, body, now=august, query=renewed) == 0
    assert account.errcode(CLEAR, {"appid": "other"}, now=august, query=renewed) == 40013


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"appid": OPTIONS.app_id, "appsecret": OPTIONS.app_secret}, 0),
        ({"appid": OPTIONS.app_id, "appsecret": "wrong"}, 40125),
        ({"appid": OPTIONS.app_id}, 41004),
        ({"appid": "other", "appsecret": OPTIONS.app_secret}, 40013),
    ],
)
def test_clear_quota_v2_takes_the_secret_and_no_token(body, errcode):
    account = Account(quotas={"custom": {"used": 500_000}})
    assert account.errcode("/cgi-bin/clear_quota/v2", body, query="") == errcode
    assert account.errcode(CUSTOM, text()) == (45009 if errcode else 0)


def test_tokens_have_quotas_too_and_a_wrong_secret_costs_none():
    account = Account(quotas={"token": 1, "stable_token": {"per_minute": 1}})
    assert account.errcode(TOKEN, b"", method="GET", query="?grant_type=x") == 40002
    assert account.ask(TOKEN, b"", method="GET", query=CREDENTIALS)["expires_in"] == 7200
    assert account.errcode(TOKEN, b"", method="GET", query=CREDENTIALS) == 45009
    body = {"grant_type": "client_credential", "appid": OPTIONS.app_id, "secret": OPTIONS.app_secret}
    assert "access_token" in account.ask("/cgi-bin/stable_token", body, query="")
    assert account.errcode("/cgi-bin/stable_token", body, query="") == 45011


def test_the_defaults_are_those_of_the_reference():
    daily = {name: row.daily for name, row in BY_NAME.items() if row.daily}
    assert daily == {
        "token": 2000,
        "stable_token": 500_000,
        "custom": 500_000,
        "template": 100_000,
        "mass": 100,
        "user_get": 500,
    }


def test_all_can_be_without_limit():
    account = Account(quotas={"all": 0, "custom": {"used": 5}})
    described = account.wechat.account.quotas.describe(NOW)
    assert set(described["endpoints"]) == {"custom", "template", "stable_token", "mass"}
    assert described["endpoints"]["custom"]["used"] == 5
    assert described["clearings_left"] == 10
    assert datetime.fromtimestamp(NOW + described["resets_in_s"], UTC).hour == 16


@pytest.mark.parametrize("wrong", [{"sms": 1}, {"custom": -1}, {"custom": {"hourly": 1}}, {"custom": "x"}])
def test_a_wrong_quota_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
        Account(quotas=wrong)
    assert "\n" not in str(caught.value)
