"""The parts of a selftest, each by itself: a site goes away, a disk is full, a process and its log."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest

from broadcastd.selftest.books import in_doubt, read_books
from broadcastd.selftest.disk import Disk, NoFullDisk, SizeLimit, SmallTmpfs, open_disk
from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.life import Life
from broadcastd.selftest.options import Options
from broadcastd.selftest.site import Site

OPTIONS = Options(rounds=2, recipients=10, tasks=2, on_unknown="resend", latency_ms=0, seed=1)

# Writes a block whenever it is told to, and says how that went.
WRITER = """
import sys
for line in sys.stdin:
    try:
        with open(sys.argv[1], "ab", buffering=0) as file:
            file.write(b"x" * 100_000)
        print("written", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", timeout=0, uri=True)


def test_a_site_that_is_away_is_away_for_old_and_new_connections(tmp_path: Path) -> None:
    site = Site(tmp_path, 3, "token")
    count = "SELECT count(*) FROM tp_receiver"
    with closing(connect(site.path)) as old:
        assert old.execute(count).fetchone() == (3,)
        with site.away():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                old.execute(count)
            with pytest.raises(sqlite3.OperationalError, match="unable to open"):
                connect(site.path)
        assert old.execute(count).fetchone() == (3,)
    with closing(connect(site.path)) as new:
        assert new.execute("SELECT id, openid FROM tp_receiver").fetchall() == list(site.openids())
    assert [path.name for path in tmp_path.iterdir()] == ["site.db"]


def opened_disk(kind: str, folder: Path) -> Disk:
    try:
        return open_disk(replace(OPTIONS, disk=kind), folder)
    except SelftestStoppedError as error:
        pytest.skip(f"not permitted here: {error}")


@pytest.mark.parametrize(("kind", "implementation"), [("limit", SizeLimit), ("tmpfs", SmallTmpfs)])
def test_a_full_disk_takes_nothing_until_it_has_room_again(
    kind: str, implementation: type, tmp_path: Path
) -> None:
    disk = opened_disk(kind, tmp_path / "ledger")
    written = tmp_path / "ledger" / "file"
    command = [sys.executable, "-c", WRITER, str(written)]
    with closing(disk), subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as writer:

        def write() -> str:
            writer.stdin.write("\n")
            writer.stdin.flush()
            return writer.stdout.readline().strip()

        assert isinstance(disk, implementation)
        assert write() == "written"
        with disk.full(writer.pid):
            # A page may still fit on a tmpfs: then the first block was cut short without a word.
            answers = [write(), write()]
        assert answers[1] == ("No space left on device" if kind == "tmpfs" else "File too large")
        assert write() == "written"
        writer.stdin.close()
    # The disk is let go, and what was written stays readable.
    assert written.stat().st_size >= 200_000
    assert not os.path.ismount(tmp_path / "ledger")


def test_a_full_disk_may_be_left_out(tmp_path: Path) -> None:
    disk = open_disk(replace(OPTIONS, disk="none"), tmp_path / "ledger")
    assert isinstance(disk, NoFullDisk)
    assert disk.name == "left out, as asked for"


def test_a_life_tells_what_was_logged_and_how_it_ended(tmp_path: Path) -> None:
    script = """
import sys, time
print("plain words", flush=True)
print('{"event":"came","n":1}', file=sys.stderr, flush=True)
time.sleep(60)
"""
    life = Life([sys.executable, "-c", script], tmp_path / "a.log")
    assert life.event("came", 20) == {"event": "came", "n": 1}
    assert life.runs
    assert life.end(signal.SIGKILL) == -signal.SIGKILL
    assert not life.runs
    # Nobody waits for what cannot come any more.
    assert life.event("never", 600) is None
    assert life.last_words.splitlines()[0] == "plain words"
    assert (tmp_path / "a.log").read_text().splitlines()[0] == "plain words"


def test_an_operators_environment_does_not_reach_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROADCASTD_SERVER__PORT", "1")
    script = "import os; print([name for name in os.environ if name.startswith('BROADCASTD')])"
    life = Life([sys.executable, "-c", script], tmp_path / "a.log")
    assert life.event("never", 20) is None
    assert life.end(signal.SIGKILL) == 0
    assert life.last_words == "[]"


def test_a_ledger_that_is_not_there_has_no_books(tmp_path: Path) -> None:
    assert in_doubt(tmp_path / "ledger.db") == 0
    assert read_books(tmp_path / "ledger.db") == {}


def test_a_ledger_that_is_none_is_said_to_be_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("not a database at all, but long enough to be looked at as one")
    with pytest.raises(SelftestStoppedError, match="the ledger cannot be read"):
        read_books(path)
