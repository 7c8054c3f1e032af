"""The ledger's versions: both ways to the present tables, on every database; and steps that are cut off."""

import itertools
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from bed import old_ledger
from bed.old_ledger import ACCEPTED, DONE, HALF_PLANNED, HALF_SENT, HELD
from bed.schemas import (
    CutOffError,
    Database,
    MariaDatabase,
    SqliteDatabase,
    content,
    cut_before,
    everything,
    tables,
)

import broadcastd
from broadcastd.errors import LedgerUnavailableError, LedgerVersionError
from broadcastd.ledgers import migration, sqlite
from broadcastd.ledgers.migration import HEAD, Age, Found
from broadcastd.ledgers.schema import metadata

Change = Callable[[sa.Connection], None]
NOW = datetime(2026, 11, 24, 13, 45, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    database: Database = (
        SqliteDatabase(tmp_path / "ledger.db")
        if request.param == "sqlite"
        else MariaDatabase(request.getfixturevalue("mariadb"))
    )
    database.clear()
    return database


def make_old(database: Database) -> None:
    """The ledger of 0.1.0 with all kinds of jobs."""
    database.clear()

    def fill(connection: sa.Connection) -> None:
        migration.migrate(connection, "0001")
        connection.execute(sa.text("DROP TABLE alembic_version"))  # 0.1.0 had none
        old_ledger.fill(connection, NOW_MS)

    database.run(fill)


# -- the tables --------------------------------------------------------------------------------------------


def test_the_programs_version_is_the_last_step() -> None:
    config = Config()
    config.set_main_option("script_location", migration.SCRIPTS)
    steps = list(ScriptDirectory.from_config(config).walk_revisions())
    assert steps[0].revision == HEAD
    revisions = [step.revision for step in reversed(steps)]
    assert revisions == [f"{number:04}" for number in range(1, len(steps) + 1)]


def test_a_new_ledger_and_a_migrated_one_have_the_same_tables(database: Database) -> None:
    database.run(migration.make)
    made = database.run(tables)
    assert len(made) == len(metadata.tables) + 1
    assert database.run(_departures) == []
    database.clear()
    database.run(lambda one: migration.migrate(one, HEAD))
    assert database.run(tables) == made
    assert database.run(_departures) == []


def _departures(connection: sa.Connection) -> Any:
    # Defaults are not compared here: alembic takes '' for one that differs from ''. `tables` has them.
    options = {"compare_type": True}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def test_the_first_step_is_the_schema_that_0_1_0_made(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "ledger.db")
    with closing(sqlite3.connect(database.path)) as old:
        old.executescript(old_ledger.TABLES)
    released = database.run(tables)
    database.clear()
    database.run(lambda one: migration.migrate(one, "0001"))
    first = database.run(tables)
    del first["alembic_version"]
    assert first == released


def test_every_folder_of_modules_is_a_package_else_an_installed_broadcastd_lacks_it() -> None:
    top = Path(broadcastd.__file__).parent
    folders = {path.parent for path in top.rglob("*.py")}
    assert len(folders) > 9
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


# -- which version -----------------------------------------------------------------------------------------


def test_what_an_empty_database_a_new_and_an_old_ledger_are(database: Database) -> None:
    assert database.run(migration.state_of) == Found(Age.NEW)
    database.run(migration.make)
    assert database.run(migration.state_of) == Found(Age.PRESENT, HEAD)
    make_old(database)
    assert database.run(migration.state_of) == Found(Age.OLD, "0001")
    database.run(migration.upgrade)
    assert database.run(migration.state_of) == Found(Age.PRESENT, HEAD)
    with pytest.raises(LedgerVersionError, match=f"{HEAD} cannot be upgraded"):
        database.run(migration.upgrade)


@pytest.mark.parametrize("version", ["0417", "9999", "ae1027a6acf", "1"])
def test_a_version_that_is_not_known_is_newer(database: Database, version: str) -> None:
    database.run(migration.make)
    database.run(lambda one: one.execute(sa.text(f"UPDATE alembic_version SET version_num = '{version}'")))
    assert database.run(migration.state_of) == Found(Age.NEWER, version)


@pytest.mark.parametrize("table", ["jobs", "meta"])
def test_a_database_with_tables_of_somebody_elses_is_not_touched(database: Database, table: str) -> None:
    database.run(lambda one: one.execute(sa.text(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")))
    assert database.run(migration.state_of) == Found(Age.NEW)
    with pytest.raises(LedgerVersionError, match=rf"not broadcastd's \({table}\)"):
        database.run(migration.make)
    assert list(database.run(tables)) == [table]


def test_0_1_0_refuses_what_is_newer_than_itself(database: Database) -> None:
    """It takes `meta.version` = 1 only, and names the value."""
    query = sa.text("SELECT value FROM meta WHERE name = 'version'")
    database.run(migration.make)
    assert database.run(lambda one: one.execute(query).scalar_one()) == "2"
    make_old(database)
    database.run(migration.upgrade)
    assert database.run(lambda one: one.execute(query).scalar_one()) == "2"


def test_alembic_is_not_loaded_where_nothing_is_upgraded(tmp_path: Path) -> None:
    code = (
        "import sys, datetime, pathlib; from broadcastd import app; from broadcastd.ledgers import sqlite\n"
        "for _ in range(2): sqlite.prepare(pathlib.Path(sys.argv[1]), datetime.datetime.now(datetime.UTC))\n"
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "ledger.db"], check=True, timeout=60)


# -- the data ----------------------------------------------------------------------------------------------


def test_old_jobs_get_their_first_round_and_the_reason_of_their_hold(database: Database) -> None:
    make_old(database)
    before = database.run(content)
    database.run(migration.upgrade)
    after = database.run(content)
    books = [(one["job_no"], one["no"], one["recipients"], one["ended"]) for one in after["rounds"]]
    assert books == [
        (DONE, 1, 3, 3),
        (HALF_SENT, 1, 1500, 660),
        (HELD, 1, 10, 0),
        (ACCEPTED, 1, 0, 0),
        (HALF_PLANNED, 1, 500, 90),
    ]
    for one, job in zip(after["rounds"], before["jobs"], strict=True):
        assert (one["accepted_at"], one["finished_at"], one["only"]) == (
            job["accepted_at"],
            job["finished_at"],
            None,
        )
    assert {one["no"] for one in after["jobs"] if one["hold_kind"] == "trouble"} == {HELD}
    single = {one["name"]: one["value"] for one in after["meta"]}
    assert single == {"version": "2", "starts": "7", "heartbeat_at": str(NOW_MS - 30 * 60_000)}
    for name in ("jobs", "job_keys", "slices", "deferrals", "outcomes", "tallies"):
        kept = [{key: row[key] for key in was} for row, was in zip(after[name], before[name], strict=True)]
        assert kept == before[name], name
    assert {one["round"] for name in ("jobs", "slices", "outcomes") for one in after[name]} == {1}
    assert {one["no"]: one["told_at"] for one in after["jobs"] if one["told_at"] is not None} == {
        one["no"]: one["finished_at"] for one in before["jobs"] if one["no"] == DONE
    }, "nobody is told of what ended before the upgrade"


def test_an_empty_old_ledger_is_upgraded_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(old_ledger.TABLES)
        old.execute("INSERT INTO meta VALUES ('version', '1')")
        old.commit()
    done = sqlite.prepare(path, NOW)
    assert done is not None
    assert done.backup == tmp_path / f"ledger.db.before-{HEAD}-20261124T134500Z"
    assert SqliteDatabase(path).run(migration.state_of).age is Age.PRESENT


# -- cut off -----------------------------------------------------------------------------------------------


def _was_cut(database: Database, change: Change, number: int) -> bool:
    """Run `change`, but only up to its statement of this number; whether it has so many."""
    try:
        database.run(cut_before(change, number))
    except CutOffError:
        return True
    return False


def test_an_upgrade_that_is_killed_anywhere_starts_over(database: Database) -> None:
    make_old(database)
    old = database.run(content)
    database.run(migration.upgrade)
    right = database.run(everything)
    for number in itertools.count(1):
        make_old(database)
        if not _was_cut(database, migration.upgrade, number):
            break
        if isinstance(database, SqliteDatabase):
            assert database.run(content) == old
        # MySQL commits each whole step of several.
        assert database.run(migration.state_of).age is Age.OLD
        database.run(migration.upgrade)
        assert database.run(everything) == right, number
    assert number > 12
    assert database.run(everything) == right


def test_an_upgrade_that_is_killed_again_and_again_goes_on(database: Database) -> None:
    make_old(database)
    database.run(migration.upgrade)
    right = database.run(everything)
    make_old(database)
    assert _was_cut(database, migration.upgrade, 1)
    for number in itertools.count(2):
        if not _was_cut(database, migration.upgrade, number):
            break
    assert database.run(everything) == right


def test_a_step_that_has_run_changes_nothing_when_it_is_run_again(database: Database) -> None:
    make_old(database)
    database.run(migration.upgrade)
    right = database.run(everything)
    database.run(lambda one: one.execute(sa.text("UPDATE alembic_version SET version_num = '0001'")))
    database.run(migration.upgrade)
    assert database.run(everything) == right


def test_the_making_of_a_new_ledger_that_is_killed_anywhere_starts_over(database: Database) -> None:
    database.run(migration.make)
    right = database.run(everything)
    for number in itertools.count(1):
        database.clear()
        if not _was_cut(database, migration.make, number):
            break
        assert database.run(migration.state_of) == Found(Age.NEW)
        database.run(migration.make)
        assert database.run(everything) == right, number
    assert number > 12


def test_an_upgrade_that_fails_leaves_the_ledger_and_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old_ledger.sqlite_ledger(path, now_ms=NOW_MS)
    with closing(sqlite3.connect(path)) as old:
        fails = "SELECT RAISE(ABORT, 'no more room')"
        old.execute(f"CREATE TRIGGER full BEFORE UPDATE ON meta BEGIN {fails}; END")
    database = SqliteDatabase(path)
    before = database.run(content)
    says = re.escape(f"{path} cannot be upgraded to version {HEAD}: no more room")
    with pytest.raises(LedgerUnavailableError, match=says):
        sqlite.prepare(path, NOW)
    assert database.run(content) == before
    assert not list(tmp_path.glob("*.before-*"))
    with closing(sqlite3.connect(path)) as old:
        old.execute("DROP TRIGGER full")
    sqlite.prepare(path, NOW)
    assert database.run(migration.state_of).age is Age.PRESENT


def test_what_a_kill_left_of_a_backup_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old_ledger.sqlite_ledger(path, now_ms=NOW_MS)
    partial = tmp_path / f"ledger.db.before-{HEAD}.partial"
    partial.write_bytes(path.read_bytes()[:5000])
    done = sqlite.prepare(path, NOW)
    assert done is not None
    assert not partial.exists()
    assert done.backup is not None
    with closing(sqlite3.connect(f"file:{done.backup}?mode=ro", uri=True)) as copy:
        assert copy.execute("SELECT count(*) FROM outcomes").fetchone() == (3 + 660 + 90,)
