import re
from pathlib import Path

import pytest

from broadcastd import errcodes
from broadcastd.errcodes import MEANINGS, UNLISTED, Action, in_words, meaning_of


@pytest.mark.parametrize(
    ("errcode", "action"),
    [
        (0, Action.ACCEPT),
        (-1, Action.RETRY),
        (40001, Action.REFRESH),
        (40014, Action.REFRESH),
        (42001, Action.REFRESH),
        (41001, Action.REFRESH),
        (45015, Action.FALLBACK),
        (45047, Action.FALLBACK),
        (40003, Action.REJECT),
        (43004, Action.REJECT),
        (45011, Action.SLOW),
        (45009, Action.QUOTA),
        (45002, Action.STOP),
        (40037, Action.STOP),
        (47003, Action.STOP),
        (48001, Action.HOLD_CHANNEL),
        (40164, Action.HOLD_ACCOUNT),
        (48004, Action.HOLD_ACCOUNT),
        (45065, Action.ACCEPT),
        (45066, Action.MINUTE),
        (40241, Action.MINUTE),
        (40130, Action.REBUILD),
    ],
)
def test_rows_of_the_reference(errcode, action):
    assert meaning_of(errcode).action is action


def test_each_code_has_one_row():
    codes = [code for row in errcodes._TABLE for code in row[0]]
    assert sorted(codes) == sorted(set(codes))
    assert set(codes) == set(MEANINGS)


def test_a_code_that_is_not_listed_is_tried_again():
    assert 99999 not in MEANINGS
    assert meaning_of(99999) is UNLISTED
    assert UNLISTED.action is Action.RETRY


def test_only_these_codes_fall_back():
    falls = {code for code, meaning in MEANINGS.items() if meaning.action is Action.FALLBACK}
    assert falls == {45015, 45047, 43101}


def test_only_these_count_as_accepted():
    assert [code for code, meaning in MEANINGS.items() if meaning.action is Action.ACCEPT] == [0, 45065]


def test_every_code_of_the_reference_has_its_row():
    """docs/wechat-api.md, section 8."""
    text = (Path(__file__).parents[2] / "docs/wechat-api.md").read_text()
    section = text.split("## 8.")[1].split("## 9.")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    codes = {int(code) for row in rows for code in re.findall(r"\b\d{5}\b", row)}
    assert len(codes) > 70
    assert codes - set(MEANINGS) == set()


def test_every_row_has_words_in_both_languages():
    assert all(meaning.en and meaning.zh for meaning in [*MEANINGS.values(), UNLISTED])


def test_in_words():
    assert in_words(45015) == "45015 outside the 48 h customer-service window (回复时间超过限制)"
    assert in_words(99999) == "99999 an errcode that broadcastd does not know (未知错误码)"
