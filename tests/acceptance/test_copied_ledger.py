"""A second daemon, a copy, a restored backup: nobody is asked twice; plain restarts never look like one."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bed.arrivals import Arrivals, lost, repeats
from bed.books import check_books
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site

FOLLOWERS = 2500


def _copy_ledger(source: Path, target: Path) -> None:
    """The file and its write-ahead log, as `cp ledger.db*` takes them from under a running daemon."""
    for name in ("ledger.db", "ledger.db-wal"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _under_way(daemon: DaemonProcess, arrivals: Arrivals, tag: str) -> str:
    job: str = daemon.call({"content": tag, "key": tag})["job"]
    eventually(lambda: len(arrivals.of(tag)) > 300, what="sending is under way")
    return job


def _second(daemon: DaemonProcess, folder: Path, endpoint: CountingEndpoint, site: str) -> DaemonProcess:
    """A daemon in another folder that keeps its identity files where the first one does."""
    folder.mkdir(exist_ok=True)
    second = DaemonProcess(folder, endpoint.url, site)
    text = second.settings.read_text(encoding="utf-8")
    shared = f'identity_dir = "{daemon.folder}/identity"'
    second.settings.write_text(text.replace('identity_dir = "identity"', shared), encoding="utf-8")
    return second


def test_a_second_daemon_on_the_same_ledger_is_refused(tmp_path: Path) -> None:
    """Whatever way leads to it."""
    first_folder, second_folder = tmp_path / "first", tmp_path / "second"
    first_folder.mkdir()
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 100)
        with daemon_process(first_folder, endpoint.url, site) as daemon:
            second = _second(daemon, second_folder, endpoint, site)
            (second_folder / "other.db").symlink_to(daemon.ledger)
            (tmp_path / "elsewhere").symlink_to(first_folder)
            assert daemon.process is not None
            text = second.settings.read_text(encoding="utf-8")
            for way in (daemon.ledger, Path("other.db"), tmp_path / "elsewhere" / "ledger.db"):
                second.settings.write_text(text.replace("ledger.db", str(way)), encoding="utf-8")
                second.launch()
                assert second.process is not None
                assert second.process.wait(30) != 0
                assert f"is in use by another broadcastd, pid {daemon.process.pid}" in second.log
                (second_folder / "daemon.log").unlink()
            job = daemon.call({"content": "unharmed", "key": "k"})["job"]
            assert daemon.wait_done(job)["books"]["sent"] == 100
        assert len(endpoint.received) == 100


def _file_alone(daemon: DaemonProcess, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    _copy_ledger(daemon.folder, folder)


def _whole_folder(daemon: DaemonProcess, folder: Path) -> None:
    shutil.copytree(daemon.folder, folder)


@pytest.mark.parametrize("copy", [_file_alone, pytest.param(_whole_folder, marks=pytest.mark.long)])
def test_a_copy_that_is_started_elsewhere_holds_everything(
    tmp_path: Path, copy: Callable[[DaemonProcess, Path], None]
) -> None:
    first_folder, second_folder = tmp_path / "first", tmp_path / "second"
    first_folder.mkdir()
    with counting_endpoint(latency_s=0.05) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        with daemon_process(first_folder, endpoint.url, site) as daemon:
            job = _under_way(daemon, arrivals, "copied")
            copy(daemon, second_folder)
            second = DaemonProcess(second_folder, endpoint.url, site)
            try:
                second.start()
                _check_held(second, job)
                books = daemon.wait_done(job)["books"]
                assert books["sent"] == FOLLOWERS
                assert repeats(arrivals.received("copied")) == 0
                fresh = second.call({"content": "fresh", "key": "fresh"})
                assert (fresh["ok"], fresh["state"]) == (True, "held")
                for _ in range(2):
                    second.kill()
                    second.start()
                    _check_held(second, fresh["job"])
                assert not arrivals.of("fresh")
                assert repeats(arrivals.received("copied")) == 0
                # What was done by the true one is ended first; then the copy is made one of its own.
                assert second.control("cancel", job)["state"] in ("cancelling", "cancelled")
                assert second.call({"op": "adopt"}) == {"ok": True, "op": "adopt", "resumed": 1}
                assert second.call({"op": "adopt"})["ok"]
                assert second.call({"op": "info"})["ledger"] == "ok"
                assert second.wait_done(fresh["job"])["books"]["sent"] == FOLLOWERS
                second.kill()
                second.start()
                assert second.call({"op": "info"})["ledger"] == "ok"
                assert second.wait_done(second.call({"content": "free", "to": ["o1"]})["job"])
            finally:
                second.close()
            # The original never knew of it.
            daemon.kill()
            daemon.start()
            assert daemon.call({"op": "info"})["ledger"] == "ok"
        assert repeats(arrivals.received("copied")) == repeats(arrivals.received("fresh")) == 0
        check_books(second_folder / "ledger.db")


def _check_held(daemon: DaemonProcess, job: str) -> None:
    view = daemon.job(job)
    assert view["state"] == "held"
    assert "broadcastd ledger adopt" in view["reason"]
    refused = daemon.control("resume", job)
    assert (refused["error"], refused["state"]) == ("wrong_state", "held")
    assert "adopt" in refused["message"]
    assert daemon.call({"op": "info"})["ledger"] != "ok"
    assert daemon.events("ledger_copied"), "an alert: an event of its own"


def _stop(daemon: DaemonProcess) -> None:
    assert daemon.stop(signal.SIGTERM) == 0


def _kill(daemon: DaemonProcess) -> None:
    daemon.kill()


@pytest.mark.parametrize(
    ("when", "ends"),
    [
        ("running", _kill),
        ("stopped", _stop),
        pytest.param("running", _stop, marks=pytest.mark.long),
        pytest.param("stopped", _kill, marks=pytest.mark.long),
    ],
)
def test_an_older_copy_at_the_same_path_is_noticed_at_once(
    tmp_path: Path, when: str, ends: Callable[[DaemonProcess], None]
) -> None:
    """However little time has passed since the copy was made: more was sent in it, and it would be again."""
    backup = tmp_path / "backup"
    backup.mkdir()
    with counting_endpoint(latency_s=0.02) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = _under_way(daemon, arrivals, "restored")
            if when == "stopped":
                ends(daemon)
            _copy_ledger(tmp_path, backup)
            if when == "stopped":
                daemon.start()
            before = set(arrivals.received("restored"))
            daemon.wait_done(job)
            ends(daemon)
            after = arrivals.received("restored")
            assert len(after) == FOLLOWERS > len(before)
            for path in tmp_path.glob("ledger.db*"):
                if not path.name.endswith(".lock"):
                    path.unlink()
            _copy_ledger(backup, tmp_path)
            daemon.start()
            _check_held(daemon, job)
            fresh = daemon.call({"content": "fresh", "to": ["o1"]})
            assert fresh["state"] == "held"
            daemon.kill()
            daemon.start()
            _check_held(daemon, job)
            assert sum(arrivals.received("restored").values()) == sum(after.values())
            assert not arrivals.of("fresh")
            daemon.control("cancel", job)
            assert daemon.call({"op": "adopt"})["resumed"] == 1
            daemon.wait_done(fresh["job"])


def test_plain_restarts_and_kills_never_look_like_a_copy(tmp_path: Path, long_run: bool) -> None:
    with counting_endpoint(latency_s=0.02) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            daemon.kill()  # right after the very first start
            daemon.start()
            job = daemon.call({"content": "restarted", "key": "k"})["job"]
            for number in range(20 if long_run else 5):
                if number % 2:
                    daemon.kill()
                else:
                    assert daemon.stop(signal.SIGTERM) == 0
                # The machine is booted: the write-ahead log's index is gone, and the lock file with it.
                for name in ("ledger.db-shm", "ledger.db.lock"):
                    (tmp_path / name).unlink(missing_ok=True)
                if number % 3 == 0:
                    daemon.launch(cold=True)
                    time.sleep(0.15 * (1 + number % 5))  # the moment of the kill is what is varied
                    daemon.kill()
                daemon.start()
                assert daemon.call({"op": "info"})["ledger"] == "ok"
                assert daemon.job(job)["state"] in ("accepted", "running", "done")
            books = daemon.wait_done(job)["books"]
            assert not daemon.events("ledger_copied")
        everybody = [openid(number) for number in range(1, FOLLOWERS + 1)]
        received = arrivals.received("restarted")
        assert not lost(everybody, received, ())
        assert repeats(received) <= books["in_doubt"]


def test_a_first_start_that_is_killed_at_any_moment_is_no_copy(tmp_path: Path, long_run: bool) -> None:
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 1)
        for number in range(20 if long_run else 3):
            folder = tmp_path / str(number)
            folder.mkdir()
            daemon = DaemonProcess(folder, endpoint.url, site)
            try:
                daemon.launch(cold=True)
                _kill_during_first_start(daemon, number)
                daemon.start()
                assert daemon.call({"op": "info"})["ledger"] == "ok"
                reply: dict[str, Any] = daemon.call({"content": f"first-{number}", "key": "k"})
                daemon.wait_done(reply["job"])
            finally:
                daemon.close()


def _kill_during_first_start(daemon: DaemonProcess, number: int) -> None:
    """When one thing more is on disk than in the round before."""
    steps = [daemon.ledger, daemon.folder / "ledger.db-wal", daemon.folder / "identity"]
    if number < len(steps):
        eventually(steps[number].exists, what=f"{steps[number]} is there")
    else:
        eventually(lambda: list(steps[-1].glob("*.json")), what="its identity is outside")
    daemon.kill()
