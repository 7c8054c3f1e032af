"""mass/send and mass/get: the list, the ids, the four a month, the result."""

import pytest
from bed.sandbox_account import NOW, Account

from broadcastd.sandbox import openid

SEND = "/cgi-bin/message/mass/send"
GET = "/cgi-bin/message/mass/get"
# Midday of the 15th, in Shanghai: days and minutes can pass without a new month.
DAY_S = 86_400.0


def mass(*numbers, **more):
    openids = [openid(number) for number in numbers]
    return {"touser": openids, "msgtype": "text", "text": {"content": "求購信息"}} | more


def account_of(**options):
    account = Account(inside=20, unfollowed=2, expires_in_s=10**8, **options)
    account.wechat.account.results.are_told = True
    return account


def counts(account):
    (event,) = account.reply.events
    return {name: event.fields[name] for name in ("TotalCount", "FilterCount", "SentCount", "ErrorCount")}


def delivered(account):
    return {account.wechat.followers.name(row): count for row, count in account.wechat.calls.deliveries}


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, 40031),
        (mass(0), 40130),
        (mass(0, 1) | {"touser": []}, 40032),
        (mass(0, 1) | {"touser": "o1"}, 40031),
        (mass(0, 1) | {"touser": ["o1", 2]}, 40031),
        (mass(0, 1) | {"touser": ["o1", ""]}, 40031),
        (mass(0, 1) | {"touser": ["o1", "x" * 129]}, 40031),
        (mass(*range(10_001)), 40032),
        (mass(0, 1, msgtype="news"), 40008),
        (mass(0, 1, text={"content": ""}), 44004),
        (mass(0, 1, text={"content": "x" * 2049}), 45002),
        (mass(0, 1, clientmsgid="x" * 33), 45067),
        (mass(0, 1, clientmsgid="x" * 32), 0),
        (mass(20, 21), 40031),
    ],
)
def test_what_is_not_accepted(body, errcode):
    assert account_of().errcode(SEND, body) == errcode


def test_it_reaches_its_list_and_says_so_later():
    account = account_of(results={"mass_delay_s": 30})
    answer = account.ask(SEND, mass(0, 1, 1, 21, clientmsgid="a"))
    assert answer["errmsg"] == "send job submission success"
    assert delivered(account) == {openid(0): 1, openid(1): 1}
    assert account.last.text == "求購信息"
    assert account.last.client_msg_id == "a"
    ask = {"msg_id": answer["msg_id"]}
    assert account.ask(GET, ask, now=NOW + 29) == {"msg_id": answer["msg_id"], "msg_status": "SENDING"}
    assert account.ask(GET, ask, now=NOW + 30)["msg_status"] == "SEND_SUCCESS"
    account.ask(SEND, mass(0, 1, 1, 21, clientmsgid="b"))
    (event,) = account.reply.events
    assert (event.kind, event.at, event.fields["Status"]) == ("MASSSENDJOBFINISH", NOW + 30, "send success")
    assert counts(account) == {"TotalCount": 4, "FilterCount": 2, "SentCount": 2, "ErrorCount": 0}


@pytest.mark.parametrize("wrong", [{"msg_id": 1}, {"msg_id": "9" * 5000}, {"msg_id": None}, {}])
def test_another_msg_id_is_not_known(wrong):
    assert account_of().errcode(GET, wrong) == 40059


def test_the_same_clientmsgid_within_24_hours_is_the_same_message():
    account = account_of()
    first = account.ask(SEND, mass(0, 1, clientmsgid="a"))
    assert account.errcode(SEND, mass(0, 1, clientmsgid="a"), now=NOW + 59) == 45066
    again = account.ask(SEND, mass(0, 1, clientmsgid="a"), now=NOW + 60)
    assert (again["errcode"], again["msg_id"], again["msg_data_id"]) == (
        45065,
        first["msg_id"],
        first["msg_data_id"],
    )
    assert account.errcode(SEND, mass(0, 1, clientmsgid="a"), now=NOW + 90) == 45066
    assert account.errcode(SEND, mass(0, 1, clientmsgid="a"), now=NOW + DAY_S - 1) == 45065
    assert delivered(account) == {openid(0): 1, openid(1): 1}
    assert account.ask(SEND, mass(0, 1, clientmsgid="a"), now=NOW + DAY_S)["msg_id"] != first["msg_id"]


def test_without_a_clientmsgid_audience_and_text_stand_in():
    account = account_of()
    assert account.errcode(SEND, mass(0, 1)) == 0
    assert account.errcode(SEND, mass(0, 1), now=NOW + 60) == 45065
    assert account.errcode(SEND, mass(0, 2)) == 0
    assert account.errcode(SEND, mass(0, 1, text={"content": "b"})) == 0


def test_four_a_month_for_each_follower():
    account = account_of()
    for number in range(4):
        account.errcode(SEND, mass(0, 1, clientmsgid=f"a{number}"))
    assert account.errcode(SEND, mass(0, 2, clientmsgid="b")) == 0
    assert counts(account) == {"TotalCount": 2, "FilterCount": 1, "SentCount": 1, "ErrorCount": 0}
    assert delivered(account) == {openid(0): 4, openid(1): 4, openid(2): 1}
    # November 2023 has ended 20 days later.
    account.errcode(SEND, mass(0, 1, clientmsgid="c"), now=NOW + 20 * DAY_S)
    assert delivered(account)[openid(0)] == 5


def test_who_is_forced_to_an_errcode_is_an_error_of_the_message():
    account = account_of()
    account.wechat.followers.force(0, 48002)
    account.ask(SEND, mass(0, 1))
    assert counts(account) == {"TotalCount": 2, "FilterCount": 2, "SentCount": 1, "ErrorCount": 1}
    assert delivered(account) == {openid(1): 1}


def test_a_message_that_fails_reaches_nobody_and_costs_nobody_a_message():
    account = account_of(results={"mass": "err(20001)", "mass_delay_s": 0})
    answers = [account.ask(SEND, mass(0, 1, clientmsgid=f"a{number}")) for number in range(5)]
    assert counts(account) == {"TotalCount": 2, "FilterCount": 2, "SentCount": 0, "ErrorCount": 2}
    assert account.reply.events[0].fields["Status"] == "err(20001)"
    assert delivered(account) == {}
    assert account.ask(GET, {"msg_id": answers[0]["msg_id"]})["msg_status"] == "SEND_FAIL"
    account.wechat.account.results.change({"mass": "send success"})
    account.ask(SEND, mass(0, 1, clientmsgid="b"))
    assert delivered(account) == {openid(0): 1, openid(1): 1}


def test_a_hundred_a_day_and_sixty_a_minute():
    account = account_of(quotas={"mass": {"daily": 2}})
    assert [account.errcode(SEND, mass(0, 1, clientmsgid=f"{n}")) for n in range(3)] == [0, 0, 45028]
    account = account_of()
    minute = NOW - NOW % 60
    errcodes = [account.errcode(SEND, mass(n % 20, (n + 1) % 20), now=minute) for n in range(61)]
    assert errcodes[59:] == [45066, 45011]


def test_a_mass_message_is_found_by_its_text_and_by_each_of_its_followers():
    account = account_of()
    account.ask(
        "/cgi-bin/message/custom/send", {"touser": openid(1), "msgtype": "text", "text": {"content": "b"}}
    )
    account.ask(SEND, mass(0, 1))
    calls = account.wechat.calls
    assert dict(calls.deliveries_with("求購")) == {0: 1, 1: 1}
    assert calls.numbers(0, 10, row=1) == [0, 1]
    assert calls.numbers(0, 10, row=0) == [1]
    assert calls.numbers(0, 1, row=1) == [0]
