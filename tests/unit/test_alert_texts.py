"""What an alert says, in two languages; and what it must never say."""

import re
from datetime import timedelta

import pytest
from bed.fakes import T0

from broadcastd.alerts.policy import Alert
from broadcastd.alerts.texts import LONGEST_FACT, LONGEST_TITLE, errcode_of, text_of
from broadcastd.alerts.words import FRAME, LABELS, WORDS
from broadcastd.errcodes import MEANINGS, in_words
from broadcastd.notices import NoticeKind

EVENTS = (NoticeKind.JOB_FINISHED, NoticeKind.TEST)
REASON = f"{in_words(40164)} (channel custom)"
HELD = Alert(NoticeKind.ACCOUNT_HELD, T0, "default", {"account": "default", "reason": REASON}, since=T0)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", list(NoticeKind))
def test_every_kind_has_words_in_both_languages(kind, language):
    words = WORDS[language][kind]
    assert words.title
    assert bool(words.over) is (kind not in EVENTS)
    text = text_of(Alert(kind, T0, "j1", {"reason": "why"}), language, "shop")
    assert text.title.startswith("[broadcastd shop] ")
    assert "why" in text.body
    assert "{" not in text.title + text.body
    chinese = re.search(r"[\u4e00-\u9fff]", words.title + words.says)
    assert bool(chinese) is (language == "zh")


def test_both_languages_name_the_same():
    assert LABELS["en"].keys() == LABELS["zh"].keys()
    assert FRAME["en"].keys() == FRAME["zh"].keys()


def test_an_account_that_is_held_with_its_errcode_in_words():
    text = text_of(HELD, "en", "shop")
    assert text.title == "[broadcastd shop] WeChat refuses account default (40164)"
    assert "meaning: 40164 this server's IP is not on the account's whitelist\n" in text.body
    assert "broadcastd resume" in text.body
    text = text_of(HELD, "zh", "shop")
    assert text.title == "[broadcastd shop] 微信拒绝公众号 default 的调用 (40164)"
    assert "含义：40164 调用接口的 IP 不在白名单\n" in text.body


def test_its_end_and_its_reminder():
    over = Alert(HELD.kind, T0, "default", HELD.facts, over=True, since=T0 - timedelta(hours=1))
    assert text_of(over, "en", "s").title == "[broadcastd s] over: WeChat takes account default again"
    assert "What to do" not in text_of(over, "en", "s").body
    again = Alert(HELD.kind, T0, "default", HELD.facts, since=T0, reminder=True, again=3)
    assert text_of(again, "zh", "s").title == "[broadcastd s] 仍然：微信拒绝公众号 default 的调用 (40164)"
    assert "again 3 times" in text_of(again, "en", "s").body


@pytest.mark.parametrize("code", sorted(MEANINGS.keys() - {0}))
def test_every_errcode_is_found_in_its_own_words(code):
    assert errcode_of({"reason": f"{in_words(code)} (channel custom)"}) == code


@pytest.mark.parametrize(
    "reason",
    ["the audience query yields nobody", "12345 of 20000 are gone", "10000 calls", "192.168.40013.1", "v-1"],
)
def test_other_numbers_are_no_errcodes(reason):
    assert errcode_of({"reason": reason}) is None


@pytest.mark.parametrize(
    ("lasted_s", "en", "zh"),
    [(12, "12 s", "12 秒"), (200, "3 min 20 s", "3 分 20 秒"), (7500, "2 h 5 min", "2 小时 5 分")],
)
def test_how_long_it_lasted(lasted_s, en, zh):
    over = Alert(NoticeKind.DAEMON_DOWN, T0, facts={"lasted_s": lasted_s}, over=True, since=T0)
    assert f"it lasted: {en}\n" in text_of(over, "en", "s").body
    assert f"持续时间：{zh}\n" in text_of(over, "zh", "s").body


def test_one_that_is_down_says_what_starts_it_again():
    down = Alert(NoticeKind.DAEMON_DOWN, T0, facts={"restart": "broadcastd start -c {x}"}, since=T0)
    for language in ("en", "zh"):
        assert text_of(down, language, "s").body.count("broadcastd start -c {x}\n") == 1
        unknown = text_of(Alert(NoticeKind.DAEMON_DOWN, T0, since=T0), language, "s").body
        assert "systemctl restart broadcastd" in unknown
        assert "broadcastd run" not in unknown


def test_one_that_comes_and_goes_says_so():
    back = Alert(HELD.kind, T0, "default", HELD.facts, since=T0, times=3)
    assert "this is time number 3" in text_of(back, "en", "s").body
    assert "这是第 3 次" in text_of(back, "zh", "s").body


def test_refused_frames_are_shown_one_below_the_other():
    examples = ({"error": "bad_frame", "content": "求購"}, {"error": "busy", "peer": "127.0.0.1:5"})
    one = text_of(Alert(NoticeKind.FRAME_REFUSED, T0, again=1, examples=examples[:1]), "en", "s")
    assert one.title == "[broadcastd s] a post was refused"
    assert "error: bad_frame\ncontent: 求購\n" in one.body
    many = text_of(Alert(NoticeKind.FRAME_REFUSED, T0, again=40, examples=examples), "en", "s")
    assert many.title == "[broadcastd s] 40 posts were refused"
    assert "The last of them:\n" in many.body
    assert "from: 127.0.0.1:5" in many.body


def test_what_was_too_much():
    text = text_of(Alert(None, T0, more={"job_held": 70, "job_finished": 2}), "en", "s")
    assert text.title == "[broadcastd s] and 72 more alerts"
    assert "job … is held: 70\n" in text.body


@pytest.mark.parametrize("evil", ["\x1b[2J", "a\r\nBcc: x@y", "\u202eabc", "\x00", "\ud800", "<img src=x>"])
def test_nothing_from_outside_steers_a_terminal_or_makes_a_line(evil):
    facts = {"content": evil, "message": evil, "odd": evil}
    for alert in (
        Alert(NoticeKind.FRAME_REFUSED, T0, again=1, examples=(facts,)),
        Alert(NoticeKind.JOB_HELD, T0, evil, facts),
        Alert(NoticeKind.JOB_HELD, T0, "j", {evil: "x"}),
    ):
        text = text_of(alert, "en", "s")
        assert "\n" not in text.title
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text.title + text.body)
        assert "<" not in text.title
        assert not re.search(r"(?m)^Bcc", text.body)
        (text.title + text.body).encode()


def test_lengths_are_bounded():
    text = text_of(Alert(NoticeKind.JOB_HELD, T0, "j" * 5000, {"reason": "r" * 50_000}), "en", "s")
    assert len(text.title) <= LONGEST_TITLE
    assert len(text.body) < 4 * LONGEST_FACT
