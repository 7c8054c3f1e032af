"""A list of recipients as CSV and as JSON lines."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.cli.who import COLUMNS, FORMULA, cell, write_csv, write_jsonl


def person(**more: Any) -> dict[str, Any]:
    return {
        "ok": True, "id": 17, "openid": "oA-_1", "outcome": "sent", "channel": "custom", "errcode": 0,
        "at": "2026-11-24T10:00:00.000+00:00", "round": 1, **more,
    }  # fmt: skip


def as_csv(*people: dict[str, Any]) -> str:
    out = io.StringIO()
    write_csv(iter(people), out.write)
    return out.getvalue()


def test_csv_has_a_header_and_a_row_each() -> None:
    waiting = person(id=18, openid=None, outcome=None, channel="", at=None)
    assert as_csv(person(), waiting) == (
        "id,openid,outcome,channel,errcode,at,round,delivery\n"
        "17,oA-_1,sent,custom,0,2026-11-24T10:00:00.000+00:00,1,\n"
        "18,,,,0,,1,\n"
    )


def test_nobody_is_a_header_alone() -> None:
    assert as_csv() == ",".join(COLUMNS) + "\n"


def test_a_list_that_fails_before_it_begins_has_no_header() -> None:
    def broken() -> Any:
        raise OSError
        yield

    out = io.StringIO()
    with pytest.raises(OSError):  # noqa: PT011 - the one above
        write_csv(broken(), out.write)
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+86", "'+86"),
        ("-o", "'-o"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("o=1", "o=1"),
        ("\t=1", "\\t=1"),
        ("a\nb\x1b[2J\u202e", "a\\nb\\x1b[2J\\u202e"),
        (-1, -1),
        (None, None),
    ],
)
def test_a_cell_neither_steers_a_terminal_nor_calculates(value: Any, shown: Any) -> None:
    assert cell(value) == shown


@given(st.text())
def test_every_row_is_one_line_that_reads_back(openid: str) -> None:
    text = as_csv(person(openid=openid))
    assert text.count("\n") == 2
    row = next(iter(csv.DictReader(io.StringIO(text))))
    assert row["id"] == "17"
    assert not row["openid"].startswith(FORMULA)


@given(st.text())
def test_every_object_is_one_line_that_reads_back(openid: str) -> None:
    out = io.StringIO()
    write_jsonl([person(openid=openid)], out.write)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert not set(text[:-1]) & set("\x1b\x7f\x9b\u202e\u2028\r")
    expected = person(openid=openid)
    del expected["ok"]
    assert json.loads(text) == expected


def test_chinese_stays_readable() -> None:
    out = io.StringIO()
    write_jsonl([person(openid="信息\x9b")], out.write)
    assert '"信息\\u009b"' in out.getvalue()
