import dataclasses

import pytest

from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers.identity import Identity, IdentityFile, Place, later, this_machine, why_a_copy

HERE = Place("m1", "/var/lib/broadcastd/ledger.db")
LEDGER = Identity("abc", HERE, 7, 1000)


def test_the_true_ledger_is_none():
    assert why_a_copy(LEDGER, HERE, LEDGER) == ""


@pytest.mark.parametrize(
    "behind", [later(LEDGER, 999), dataclasses.replace(LEDGER, starts=6), later(LEDGER, 0)]
)
def test_a_file_that_is_behind_is_what_a_kill_leaves(behind):
    assert why_a_copy(LEDGER, HERE, behind) == ""


@pytest.mark.parametrize(
    ("known", "word"),
    [
        (None, "missing"),
        (later(LEDGER, 1001), "worked on since"),
        (dataclasses.replace(LEDGER, starts=8), "worked on since"),
        (dataclasses.replace(LEDGER, place=Place("m1", "/elsewhere.db")), "/elsewhere.db"),
    ],
)
def test_a_file_that_says_otherwise(known, word):
    assert word in why_a_copy(LEDGER, HERE, known)


@pytest.mark.parametrize(
    ("place", "word"),
    [(Place("m2", HERE.path), "another machine"), (Place("m1", "/copy.db"), HERE.path)],
)
def test_a_ledger_that_is_elsewhere(place, word):
    assert word in why_a_copy(LEDGER, place, LEDGER)


def test_a_ledger_that_was_made_just_now_has_no_file_yet():
    assert why_a_copy(later(LEDGER, 1), HERE, None) == ""


def test_the_machine_has_a_name_that_is_not_its_id():
    assert this_machine() == this_machine()
    assert len(this_machine()) == 32


def test_the_file_keeps_what_it_is_told(tmp_path):
    file = IdentityFile(tmp_path / "a" / "b", "abc")
    assert file.read() is None
    file.write(LEDGER)
    file.write(later(LEDGER, 1001))
    assert file.read() == later(LEDGER, 1001)
    assert [one.name for one in (tmp_path / "a" / "b").iterdir()] == ["abc.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"ledger":"abc"}'])
def test_a_file_that_is_damaged_is_as_good_as_none(tmp_path, content):
    (tmp_path / "abc.json").write_bytes(content)
    assert IdentityFile(tmp_path, "abc").read() is None


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "abc.json").mkdir()
    with pytest.raises(LedgerUnavailableError, match=r"abc\.json cannot be read"):
        IdentityFile(tmp_path, "abc").read()


def test_a_place_where_no_file_can_be_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailableError, match=r"ledger\.identity_dir"):
        IdentityFile(tmp_path / "file", "abc").write(LEDGER)
