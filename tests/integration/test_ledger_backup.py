"""`broadcastd ledger backup`: a whole copy that nobody else can read, or a plain no."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bed.scripted import Run

SETTINGS = """
[ledger]
url = "{url}"
[accounts.default.audience]
url = "sqlite:///site.db"
[accounts.default.template]
template_id = "T1"
"""


def _settings(folder: Path, url: str = "sqlite:///ledger.db") -> None:
    (folder / "broadcastd.toml").write_text(SETTINGS.format(url=url), encoding="utf-8")


def test_a_copy_is_whole_and_nobody_else_s(run: Run, tmp_path: Path) -> None:
    _settings(tmp_path)
    assert run("ledger", "init").code == 0
    assert run("ledger", "backup", "copy.db").out == f"{tmp_path / 'ledger.db'}: copied to copy.db\n"
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone() == (1,)


def test_a_file_that_is_there_is_left_alone(run: Run, tmp_path: Path) -> None:
    _settings(tmp_path)
    run("ledger", "init")
    (tmp_path / "copy.db").write_text("yesterday's")
    refused = run("ledger", "backup", "copy.db")
    assert (refused.code, "a backup takes a new name" in refused.err) == (1, True)
    assert (tmp_path / "copy.db").read_text() == "yesterday's"


def test_what_it_cannot_copy(run: Run, tmp_path: Path) -> None:
    _settings(tmp_path)
    assert "there is no ledger at" in run("ledger", "backup", "copy.db").err
    run("ledger", "init")
    assert "cannot be written" in run("ledger", "backup", "nowhere/copy.db").err
    _settings(tmp_path, "mysql://user:pa55word@db.example.com:3306/ledger")
    refused = run("ledger", "backup", "copy.db")
    assert "mysqldump --single-transaction ledger > copy.db" in refused.err
    assert "pa55word" not in refused.err
    assert not list(tmp_path.glob("*.partial"))
