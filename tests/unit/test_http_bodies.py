"""Bodies of the HTTP port: JSON, or a form with the old URL's names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.ops.bodies import FORM_FIELDS, READERS, reader_of
from broadcastd.refusals import ErrorCode, Refusal

FORM = "application/x-www-form-urlencoded"
form = READERS[FORM]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"', FORM,
     f"{FORM}; charset=UTF-8"],
)  # fmt: skip
def test_content_types_that_are_read(content_type):
    assert callable(reader_of(content_type))


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/plain; application/json", "multipart/form-data; boundary=x",
     "application/json, text/plain", "application/json; charset=gbk", "application/jsonx", "*/*",
     "text/plain;charset=UTF-8"],
)  # fmt: skip
def test_content_types_that_are_not(content_type):
    """What a page can send without asking first (text/plain, multipart) is none of those that are read."""
    told = reader_of(content_type)
    assert isinstance(told, str)
    assert "application/json, application/x-www-form-urlencoded" in told


def test_the_old_urls_names():
    body = "flag=2&id=17&phone=138&content=%E6%B1%82%E8%B4%AD+a%26b&key=order-17&account=shop&token=t"
    assert form(body.encode()) == {
        "flag": "2", "ref": "17", "phone": "138", "content": "求购 a&b", "key": "order-17",
        "account": "shop", "token": "t",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"content=a&op=cancel", "unknown field 'op'; accepted: flag, id, phone, content, key"),
        (b"content=a&ref=1", "unknown field 'ref'"),
        (b"content=a&content=b", "content stands twice"),
        (b"content=%ff", "not UTF-8"),
        (b"content=\xff", "not UTF-8"),
        (b"content", "not a valid form"),
        (b"&".join(b"content=a" for _ in range(9)), "not a valid form"),
    ],
)
def test_a_form_that_is_wrong(body, words):
    refusal = form(body)
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.BAD_FRAME
    assert words in refusal.message


def test_an_empty_form_has_no_fields():
    assert form(b"") == {}


@given(st.binary(max_size=200))
def test_no_bytes_break_a_reader(body):
    for reader in READERS.values():
        fields = reader(body)
        assert isinstance(fields, dict | Refusal)
        if reader is form and isinstance(fields, dict):
            assert set(fields) <= set(FORM_FIELDS.values())
