"""docs/guarantees.md names tests and settings that there are."""

import re
from pathlib import Path

import pytest
from bed.settings_keys import default_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
HEAD = ["promise", "fault", "setting", "test"]


def _rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return [row for row in cells if row != HEAD and set(row[0]) != {"-"}]


ROWS = _rows()
TESTS = sorted({name for row in ROWS for name in re.findall(r"`([\w/]+\.py::\w+)`", row[-1])})


def test_every_promise_has_its_test() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == len(HEAD), row
        assert re.fullmatch(r"`[\w/]+\.py::\w+`(, `[\w/]+\.py::\w+`)*", row[3]), row


@pytest.mark.parametrize("name", TESTS)
def test_the_tests_are_there(name: str) -> None:
    path, _, function = name.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), name


def test_the_settings_are_there() -> None:
    keys = set(re.findall(r"`((?:server|pool|ledger|accounts)\.[\w.]+)`", PAGE))
    assert len(keys) > 8
    for key in keys:
        default_of(key)
