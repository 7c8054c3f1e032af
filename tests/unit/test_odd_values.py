"""Values from outside that no table and no 64 bits can hold: refused in words, never a crash."""

from decimal import Decimal

import pytest

from broadcastd.audiences.sql import _number
from broadcastd.channels.wechat import read_answer
from broadcastd.errors import AudienceUnavailableError


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64 - 616, 1.5, Decimal("2.7"), None, "o1"])
def test_an_id_that_is_no_whole_number_of_64_bits_is_refused(value):
    with pytest.raises(AudienceUnavailableError, match="whole number"):
        _number(value)


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), (Decimal("7"), 7), (-(2**63), -(2**63))])
def test_whole_numbers_are_taken(value, number):
    assert _number(value) == number


@pytest.mark.parametrize("errcode", ["18446744073709551615", "123456789012345678901234567890", "1e400"])
def test_an_errcode_beyond_all_reason_is_no_answer(errcode):
    answer = read_answer(f'{{"errcode":{errcode},"errmsg":"x"}}'.encode())
    assert answer.unanswered
    assert answer.errcode == 0


@pytest.mark.parametrize(
    "raw", [b'\xef\xbb\xbf{"errcode":0,"errmsg":"ok"}', '{"errcode":0,"errmsg":"成功"}'.encode("gbk")]
)
def test_an_answer_with_a_flaw_in_its_text_is_an_answer(raw):
    """Else whoever has the message would get it once more."""
    answer = read_answer(raw)
    assert answer.answered
    assert answer.errcode == 0
