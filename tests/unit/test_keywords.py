"""What WeChat takes as a typed keyword's value, type by type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.keywords import KINDS, cut, fitted, hidden, kind_of

CUT = [
    ("thing1", "信" * 20, "信" * 20, None),
    ("thing1", "信" * 21, "信" * 19 + "…", 20),
    ("thing21", "a" * 30, "a" * 19 + "…", 20),
    ("thing1", "𠮷" * 10, "𠮷" * 10, None),
    ("thing1", "𠮷" * 11, "𠮷" * 9 + "…", 20),
    ("character_string2", "A-1" * 10 + "zz", "A-1" * 10 + "zz", None),
    ("character_string2", "x" * 33, "x" * 29 + "...", 32),
    ("phone_number3", "+86-0766-66888866", "+86-0766-66888866", None),
    ("phone_number3", "13800000000 / 13900000000", "13800000000 /...", 17),
    ("car_number4", "粤A8Z888挂", "粤A8Z888挂", None),
    ("car_number4", "粤A8Z88889", "粤A8Z8888", 8),
    ("name5", "求" * 10, "求" * 10, None),
    ("name5", "求" * 11, "求" * 9 + "…", 10),
    ("name5", "Bartholomew J. Smith", "Bartholomew J. Smith", None),
    ("name5", "Bartholomew J. Smithy", "Bartholomew J. Smit…", 20),
    ("name5", "求 Bartholomew", "求 Barthol…", 10),
    ("phrase6", "貨物配送中", "貨物配送中", None),
    ("phrase6", "貨物正在配送中", "貨物正在配", 5),
    ("letter7", "x" * 32, "x" * 32, None),
    ("letter7", "x" * 33, "x" * 32, 32),
    ("symbol8", "+-*/%", "+-*/%", None),
    ("symbol8", "+-*/%!", "+-*/%", 5),
]


@pytest.mark.parametrize(("keyword", "value", "sent", "most"), CUT)
def test_a_value_that_is_too_long_is_cut(keyword, value, sent, most):
    assert fitted(keyword, value) == (sent, [f"cut to {most} characters"] if most else [])


FITTING = [
    ("number1", "1"), ("number1", "-12.50"), ("number1", "1" * 32),
    ("amount1", "12"), ("amount1", "¥123456789012.50元"), ("amount1", "$5"), ("amount1", "100元"),
    ("time1", "15:01"), ("time1", "15:01:30"), ("time1", "2019年10月1日 15:01"),
    ("time1", "2026-02-01 00:30:00"), ("time1", "09:00~10:00"),
    ("time1", "2024-01-01 12:00 ~ 2024-01-02 12:00"), ("time1", "2024/01/01 12:00~13:00"),
    ("date1", "2019年10月1日"), ("date1", "2018.01.01"), ("date1", "2018-01"), ("date1", "01-01"),
    ("date1", "10月1日"),
    ("date1", "2019年10月1日 15:01"), ("date1", "2018-01-01~2018-01-02"),
    ("const1", "已支付"), ("const1", ""),
]  # fmt: skip


@pytest.mark.parametrize(("keyword", "value"), FITTING)
def test_a_value_that_fits_is_left_alone(keyword, value):
    assert fitted(keyword, value) == (value, [])


REFUSED = [
    ("number1", "1,000", "does not fit its type; accepted: 32 digits"),
    ("number1", "1" * 33, "has 33 characters; accepted: 32 digits"),
    ("number1", "十", "does not fit its type"),
    ("number1", "１", "does not fit its type"),
    ("amount1", "1234567890123", "accepted: 12 digits"),
    ("amount1", "HK$5", "does not fit its type"),
    ("time1", "2019-10-01", "accepted: 15:01"),
    ("time1", "noon", "accepted: 15:01"),
    ("date1", "15:01", "accepted: 2019-10-01"),
    ("character_string1", "單號1", "32 digits, letters and symbols of ASCII"),
    ("character_string1", "A，1", "32 digits, letters and symbols of ASCII"),
    ("phone_number1", "13800000000 張", "17 digits and symbols"),
    ("car_number1", "粤A·8Z8", "8 letters and digits"),
    ("car_number1", "粤挂挂1", "8 letters and digits"),
    ("phrase1", "已OK", "5 Chinese characters"),
    ("letter1", "abc1", "32 letters from A to Z"),
    ("symbol1", "a", "5 symbols"),
    ("const1", "信" * 21, "has 21 characters; accepted: 20 characters, and only values approved"),
    *((f"{name}1", "", f"{name}1 is empty; accepted: ") for name in sorted(KINDS.keys() - {"const"})),
    ("thing1", " \n ", "thing1 is empty; accepted: 20 characters"),
    ("thing1", "\U0001f600", "thing1 is empty once its emoji are removed; accepted: 20 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("keyword", "value", "words"), REFUSED)
def test_what_no_cut_makes_fit_is_refused_in_words(keyword, value, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")) as refusal:
        fitted(keyword, value)
    assert str(refusal.value).startswith(keyword)


def test_every_type_has_a_value_that_fits_one_that_is_cut_or_refused():
    for cases in ({one[0] for one in [*CUT, *FITTING]}, {one[0] for one in REFUSED if one[1]}):
        tried = {keyword.rstrip("0123456789") for keyword in cases}
        assert tried >= KINDS.keys() - {"name", "thing"}
    assert {"name5", "thing1"} <= {one[0] for one in CUT if one[3]}


@pytest.mark.parametrize(
    ("value", "sent", "changes"),
    [
        ("a\nb\r\n\r\n c", "a b c", ["line breaks became spaces"]),
        ("a\u2028b\x85c", "a b c", ["line breaks became spaces"]),
        ("\n a \n", "a", []),
        ("a\x00b\x1b[1m", "ab[1m", []),
        ("急 \U0001f697\U0001f3fb出售", "急 出售", ["emoji removed"]),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 a \U0001f1e8\U0001f1f3", "a", ["emoji removed"]),
        ("☎\ufe0f 1\ufe0f\u20e3 a", "a", ["emoji removed"]),
        ("☎ © 1", "☎ © 1", []),
        ("葛\U000e0100", "葛\U000e0100", []),
        ("\U0001f600" + "信\n" * 25, "信 " * 9 + "信…",
         ["line breaks became spaces", "emoji removed", "cut to 20 characters"]),
    ],
)  # fmt: skip
def test_line_breaks_controls_and_emoji(value, sent, changes):
    assert fitted("thing1", value) == (sent, changes)


@pytest.mark.parametrize(
    "keyword", ["keyword1", "first", "remark", "name", "time", "short_thing2", "Thing1", "7"]
)
def test_a_keyword_without_a_known_type_is_left_alone(keyword):
    assert kind_of(keyword) is None
    assert fitted(keyword, "\n信\U0001f600" * 50) == ("\n信\U0001f600" * 50, [])
    assert fitted(keyword, "") == ("", [])


def test_no_escape_reaches_wechat_through_a_keyword_without_a_type():
    assert fitted("keyword1", "a\x00\x07b\tc") == ("ab\tc", [])


def test_a_letter_is_not_parted_from_its_accents():
    assert cut("e\u0301" * 20, 20, "…") == "e\u0301" * 9 + "…"
    assert cut("葛\U000e0100葛\U000e0100", 6, "…") == "葛\U000e0100…"
    assert cut("a" + "\u0301" * 30, 20, "…") == "…"


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=80))
def test_whatever_comes_it_fits_or_is_refused(name, value):
    kind = KINDS[name]
    try:
        sent, _ = fitted(f"{name}1", value)
    except ValueError as refusal:
        said = str(refusal)
    else:
        said = ""
        assert fitted(f"{name}1", sent) == (sent, [])
        assert kind.most is None or len(sent.encode("utf-16-le")) // 2 <= kind.most
    assert not said or said.endswith(kind.accepted)


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("first", "x", "does not show it since 2023-05-04"),
        ("remark", "", "does not show it since 2023-05-04"),
        ("keyword1", "信" * 20 + "\U0001f600", ""),
        ("keyword1", "信" * 21, "its first 20 characters"),
        ("keyword1", "a\nb", "no line breaks"),
        ("thing1", "信" * 21, ""),
    ],
)
def test_what_wechat_does_not_show_of_old_keywords(keyword, value, words):
    found = hidden(keyword, value)
    assert words in found
    assert bool(words) is bool(found)
