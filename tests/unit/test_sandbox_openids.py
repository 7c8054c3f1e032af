import re

from hypothesis import given
from hypothesis import strategies as st

from broadcastd.sandbox import openid
from broadcastd.sandbox.openids import number_of


@given(st.integers(0, 10_000_000))
def test_the_number_is_read_back(number):
    name = openid(number)
    assert re.fullmatch(r"o[\w-]{27}", name)
    assert number_of(name) == number


def test_they_never_change():
    assert [openid(0), openid(1)] == ["oSbox_Wk2wxdHOXu1aTbDF0c5e7Q", "oSbox_xHrJfK6EIvgGyGdBiVDJtw"]


def test_they_are_all_different():
    assert len({openid(number) for number in range(50_000)}) == 50_000


@given(st.text(max_size=40))
def test_anything_else_has_no_number(text):
    assert number_of(text) == -1
    assert number_of(("oSbox_" + text)[:28].ljust(28, "A")) == -1


def test_one_changed_letter_is_somebody_else():
    name = openid(7)
    assert all(number_of(name[:at] + "-" + name[at + 1 :]) in (-1, 7) for at in range(28))
    assert number_of(name.swapcase()) == -1
