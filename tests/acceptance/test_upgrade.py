"""A ledger of a former version under the present program: the real process, its commands, kill -9."""

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bed import old_ledger
from bed.daemon import DaemonProcess
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.old_ledger import ACCEPTED, DONE, FOLLOWERS, HALF_PLANNED, HALF_SENT, HELD, content, job_id
from bed.ports import eventually
from bed.site import openid, sqlite_site

from broadcastd.ledgers.migration import HEAD


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        yield endpoint


@pytest.fixture
def daemon(tmp_path: Path, endpoint: CountingEndpoint) -> Iterator[DaemonProcess]:
    """Not started yet; its folder is the tests'."""
    site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
    daemon = DaemonProcess(tmp_path, endpoint.url, site, channels=["custom"])
    yield daemon
    daemon.close()


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as outside:
        return outside.execute(sql).fetchall()


def backups(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"ledger.db.before-{HEAD}-*Z"))


def command(daemon: DaemonProcess, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "broadcastd", *words, "-c", str(daemon.settings)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done


def received(endpoint: CountingEndpoint, number: int) -> Counter[object]:
    text = content(number)
    return Counter(body["touser"] for body in endpoint.bodies if text in str(body["text"]))


def test_the_daemon_goes_on_where_the_old_one_was_killed(
    daemon: DaemonProcess, endpoint: CountingEndpoint
) -> None:
    old_ledger.sqlite_ledger(daemon.ledger)
    daemon.start()
    (upgraded,) = daemon.events("ledger_upgraded")
    (copy,) = backups(daemon.folder)
    assert (upgraded["from"], upgraded["to"], upgraded["backup"]) == ("0001", HEAD, str(copy))

    half = daemon.wait_done(job_id(HALF_SENT))["books"]
    assert (half["recipients"], half["sent"], half["in_doubt"]) == (1500, 1500, 30)
    assert received(endpoint, HALF_SENT) == Counter(openid(one) for one in range(661, 1501))

    left = daemon.wait_done(job_id(HALF_PLANNED))["books"]
    assert (left["recipients"], left["sent"], left["unknown"]) == (FOLLOWERS, FOLLOWERS - 10, 10)
    assert received(endpoint, HALF_PLANNED) == Counter(openid(one) for one in range(101, FOLLOWERS + 1))

    assert daemon.wait_done(job_id(ACCEPTED))["books"]["sent"] == FOLLOWERS
    held = daemon.job(job_id(HELD))
    assert (held["state"], held["reason"]) == ("held", "errcode 48001")
    daemon.call({"op": "resume", "job": job_id(HELD)})
    assert daemon.wait_done(job_id(HELD))["books"]["sent"] == 10

    done = daemon.job(job_id(DONE))
    assert (done["state"], done["books"]["sent"], done["books"]["rejected"]) == ("done", 2, 1)
    assert not received(endpoint, DONE)
    again = daemon.call({"content": content(DONE), "key": "order-1"})
    assert (again["job"], again["repeat"]) == (job_id(DONE), True)
    assert daemon.call({"content": content(HALF_SENT)})["job"] == job_id(HALF_SENT)


def test_the_backup_is_the_whole_old_ledger_and_nobody_elses(daemon: DaemonProcess) -> None:
    old_ledger.sqlite_ledger(daemon.ledger)
    daemon.start()
    (copy,) = backups(daemon.folder)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows(copy, "SELECT value FROM meta WHERE name = 'version'") == [("1",)]
    assert rows(copy, "SELECT count(*) FROM outcomes") == [(3 + 660 + 90,)]
    assert rows(copy, "SELECT count(*) FROM sqlite_master WHERE name = 'rounds'") == [(0,)]
    daemon.kill()
    daemon.start()
    assert backups(daemon.folder) == [copy]
    assert len(daemon.events("ledger_upgraded")) == 1


def test_the_command_upgrades_once_and_says_where_the_backup_is(daemon: DaemonProcess) -> None:
    old_ledger.sqlite_ledger(daemon.ledger)
    assert "a ledger already" in command(daemon, "ledger", "init").stdout
    assert not backups(daemon.folder)
    said = command(daemon, "ledger", "upgrade").stdout
    (copy,) = backups(daemon.folder)
    assert said == f"{daemon.ledger}: upgraded, version 0001 → {HEAD}; as it was before: {copy}\n"
    assert command(daemon, "ledger", "upgrade").stdout == f"{daemon.ledger}: version {HEAD} already\n"
    assert backups(daemon.folder) == [copy]


def test_the_command_in_json(daemon: DaemonProcess) -> None:
    old_ledger.sqlite_ledger(daemon.ledger)
    said = json.loads(command(daemon, "ledger", "upgrade", "--json").stdout)
    (copy,) = backups(daemon.folder)
    assert said == {"ledger": str(daemon.ledger), "from": "0001", "to": HEAD, "backup": str(copy)}
    said = json.loads(command(daemon, "ledger", "upgrade", "--json").stdout)
    assert said == {"ledger": str(daemon.ledger), "from": HEAD, "to": HEAD, "backup": None}


def test_the_command_leaves_a_running_daemon_and_a_missing_ledger_alone(daemon: DaemonProcess) -> None:
    missing = command(daemon, "ledger", "upgrade", code=1).stderr
    assert missing == f"broadcastd: there is no ledger {daemon.ledger}; `broadcastd ledger init` makes one\n"
    assert not daemon.ledger.exists()
    daemon.start()
    assert daemon.process is not None
    busy = command(daemon, "ledger", "upgrade", code=1).stderr
    assert f"in use by another broadcastd, pid {daemon.process.pid}" in busy


def test_a_newer_ledger_is_refused_with_what_to_do(daemon: DaemonProcess) -> None:
    command(daemon, "ledger", "init")
    with closing(sqlite3.connect(daemon.ledger)) as newer:
        newer.execute("UPDATE alembic_version SET version_num = '0417'")
        newer.commit()
    copy = daemon.folder / "ledger.db.before-0417-20300101T000000Z"
    copy.write_bytes(b"made by the newer one")
    for words in (("run",), ("ledger", "upgrade")):
        said = command(daemon, *words, code=1).stderr.splitlines()[-1]
        assert said == (
            f"broadcastd: the ledger {daemon.ledger} has version 0417, and this broadcastd works with version"
            f" {HEAD}: install the newer broadcastd again, or restore the ledger's backup from before its"
            f" upgrade ({copy}), which does not know what was sent since"
        )
    assert rows(daemon.ledger, "SELECT version_num FROM alembic_version") == [("0417",)]


def test_a_job_that_lay_for_days_in_the_old_ledger_is_not_sent_late(
    daemon: DaemonProcess, endpoint: CountingEndpoint
) -> None:
    old_ledger.sqlite_ledger(daemon.ledger, now_ms=round((time.time() - 3 * 86400) * 1000))
    daemon.start()
    for number in (HALF_SENT, ACCEPTED, HALF_PLANNED):
        view = daemon.job(job_id(number))
        assert view["state"] == "held"
        assert "was away for 72" in view["reason"]
    assert endpoint.calls == 0


def test_a_full_disk_leaves_the_ledger_as_it_is(daemon: DaemonProcess) -> None:
    old_ledger.sqlite_ledger(daemon.ledger, more_outcomes=20_000)
    before = rows(daemon.ledger, "SELECT count(*) FROM outcomes")
    # A limit for a file's size stands for the disk's: the backup outgrows it.
    limit = daemon.ledger.stat().st_size // 2 + daemon.ledger.with_name("ledger.db-wal").stat().st_size // 2
    limited = (
        f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "runpy.run_module('broadcastd', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "ledger", "upgrade", "-c", str(daemon.settings)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "must be upgraded to version" in done.stderr
    assert "Nothing was changed; it needs" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(daemon.folder.glob("ledger.db.before*"))
    assert rows(daemon.ledger, "SELECT count(*) FROM outcomes") == before
    assert rows(daemon.ledger, "SELECT value FROM meta WHERE name = 'version'") == [("1",)]
    command(daemon, "ledger", "upgrade")


MOMENTS = ("the start", "the copying", "the steps")


@pytest.mark.timeout(900)
def test_kill_9_at_any_moment_of_an_upgrade_starts_over(daemon: DaemonProcess, long_run: bool) -> None:
    """With 300,000 outcomes: the copying takes a while, so that a kill comes in its middle too."""
    origin = daemon.folder / "origin"
    origin.mkdir()
    old_ledger.sqlite_ledger(origin / "ledger.db", more_outcomes=300_000)
    draw = random.Random(3)
    found: Counter[str] = Counter()
    for number in range(40 if long_run else 6):
        for path in origin.iterdir():
            shutil.copy(path, daemon.folder / path.name)
        moment = MOMENTS[number % len(MOMENTS)]
        found[_kill_an_upgrade(daemon, moment, draw)] += 1
        command(daemon, "ledger", "upgrade")
        _is_upgraded(daemon.ledger)
        assert not list(daemon.folder.glob("*.partial*"))
        for copy in backups(daemon.folder):
            assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
            assert rows(copy, "SELECT value FROM meta WHERE name = 'version'") == [("1",)]
            assert rows(copy, "SELECT count(*) FROM outcomes") == [(300_000 + 753,)]
            copy.unlink()
    assert found["0001"] > 1, found
    daemon.start()
    assert daemon.wait_done(job_id(HALF_SENT))["books"]["sent"] == 1500


def _kill_an_upgrade(daemon: DaemonProcess, moment: str, draw: random.Random) -> str:
    """Which version the ledger is left with."""
    upgrade = [sys.executable, "-m", "broadcastd", "ledger", "upgrade", "-c", daemon.settings]
    process = subprocess.Popen(upgrade, stdout=subprocess.DEVNULL)
    partial = daemon.folder / f"ledger.db.before-{HEAD}.partial"
    reached: dict[str, Callable[[], object]] = {
        "the start": lambda: True,
        "the copying": lambda: partial.exists() or backups(daemon.folder),
        "the steps": lambda: backups(daemon.folder),
    }
    eventually(lambda: process.poll() is not None or reached[moment](), what=moment)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, 1.0 if moment == "the start" else 0.2))
    process.kill()
    process.wait(30)
    there = rows(daemon.ledger, "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'")
    return HEAD if there == [(1,)] else "0001"


def _is_upgraded(path: Path) -> None:
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    books = rows(path, "SELECT job_no, recipients, ended FROM rounds ORDER BY job_no")
    assert books == [(1, 3, 3), (2, 1500, 660), (3, 10, 0), (4, 0, 0), (5, 500, 90), (6, 300_000, 300_000)]
    assert rows(path, "SELECT count(*), sum(round) FROM outcomes") == [(300_753, 300_753)]
