import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.log import escaped
from broadcastd.wire.json_line import json_line


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_it_reads_the_same_and_steers_no_terminal(text):
    line = json_line({"content": text})
    assert json.loads(line) == {"content": text}
    shown = line.decode()
    assert shown.endswith("\n")
    assert escaped(shown[:-1]) == shown[:-1]


@pytest.mark.parametrize(
    "text", ["\x9b31m", "\x7f", "\u202e", "\u2028", "\u200f", "\u061c", "\ufeff", "\u2066"]
)
def test_what_steers_is_escaped(text):
    assert text not in json_line({"content": f"a{text}b"}).decode()


def test_chinese_stays_readable():
    assert json_line({"content": "求購二手挖掘機一台 😀"}) == '{"content":"求購二手挖掘機一台 😀"}\n'.encode()
