"""The ledger's disk fails for real: full, cut short, read-only, locked, an error on fsync.

Each time: intake says `not_durable`, nobody is asked without a mark on disk, `info`, `job` and the log say
so, and all goes on by itself.
"""

import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from bed.arrivals import Arrivals, lost, repeats
from bed.books import check_books, unmarked
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient

FOLLOWERS = 5000
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

Fault = Callable[[DaemonProcess], Any]


class FaultBed:
    """A job under way, a fault of the disk, and what must be seen of both."""

    def __init__(self, daemon: DaemonProcess, arrivals: Arrivals, job: str) -> None:
        self.daemon = daemon
        self.arrivals = arrivals
        self.job = job

    def check_refusal(self, why: str, *, in_log: bool = True) -> None:
        """While it lasts: refused, said everywhere, and nobody is asked beyond the marks."""
        reply = eventually(self._refused, what="a new job is refused")
        assert reply["retry"] is True
        info = eventually(lambda: (info := self._info())["accepts"] == "no" and info, what="info says so")
        assert why in info["ledger"]
        assert why in eventually(self._refused, what="a new job is refused with the reason")["message"]
        assert why in self.daemon.job(self.job)["waits_for"]
        if in_log:
            eventually(lambda: self.daemon.events("ledger_unwritable"), what="the log says so")
        self.check_marks()
        # Each task had at most two chunks let through; then everything stands.
        eventually(lambda: self._info()["in_flight"] == 0, what="what was let through is answered")
        asked = len(self.arrivals.all)
        assert self._refused()
        assert self._refused()
        assert len(self.arrivals.all) == asked, "nobody more is asked"
        self.check_marks()

    def _info(self) -> dict[str, Any]:
        return self.daemon.call({"op": "info"})

    def _refused(self) -> dict[str, Any] | None:
        reply = self.daemon.call({"content": "now what", "to": ["o1"]})
        return None if reply["ok"] else reply if reply["error"] == "not_durable" else None

    def check_marks(self) -> None:
        """By plain SQL: whoever was asked is at or below a mark that is on disk."""
        asked = {int(one.openid[1:]) for one in self.arrivals.of("journal")}
        assert not unmarked(self.daemon.ledger, self.job, asked)

    def check_end(self) -> None:
        """It goes on by itself, accepts again, and the books are right."""
        eventually(lambda: self._info()["accepts"] == "yes", what="it accepts again")
        assert self._info()["ledger"] == "ok"
        again = self.daemon.call({"content": "again", "to": ["o1", "o2"]})
        assert again["ok"], again
        books = self.daemon.wait_done(self.job)["books"]
        received = self.arrivals.received("journal")
        assert not lost([openid(number) for number in range(1, FOLLOWERS + 1)], received, ())
        assert books["sent"] == FOLLOWERS
        assert repeats(received) <= books["in_doubt"]
        assert self.daemon.wait_done(again["job"])["books"]["sent"] == 2
        eventually(lambda: self.daemon.events("ledger_writable_again"), what="the log says so")
        check_books(self.daemon.ledger)


@contextmanager
def _under_way(folder: Path, site_folder: Path, **settings: Any) -> Iterator[FaultBed]:
    with counting_endpoint(latency_s=0.05) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(site_folder / "site.db", FOLLOWERS)
        with daemon_process(folder, endpoint.url, site, pool="tasks = 12", **settings) as daemon:
            job = daemon.call({"content": "journal", "key": "k"})["job"]
            eventually(lambda: len(arrivals.all) > 300, what="sending is under way")
            yield FaultBed(daemon, arrivals, job)


def _pid(bed: FaultBed) -> int:
    assert bed.daemon.process is not None
    return bed.daemon.process.pid


def _let_no_file_grow(bed: FaultBed) -> None:
    """Neither the ledger's files nor the log's: each write fails (EFBIG), as under a quota."""
    resource.prlimit(_pid(bed), resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with _under_way(tmp_path, tmp_path) as bed:
        _let_no_file_grow(bed)
        try:
            bed.check_refusal("the ledger cannot be", in_log=False)
        finally:
            resource.prlimit(_pid(bed), resource.RLIMIT_FSIZE, UNLIMITED)
        bed.check_end()


def test_a_kill_while_the_disk_is_failing(tmp_path: Path) -> None:
    with _under_way(tmp_path, tmp_path) as bed:
        _let_no_file_grow(bed)
        bed.check_refusal("the ledger cannot be", in_log=False)
        bed.daemon.kill()
        bed.daemon.start()
        books = bed.daemon.wait_done(bed.job)["books"]
        received = bed.arrivals.received("journal")
        assert books["sent"] == FOLLOWERS == len(received)
        assert repeats(received) <= books["in_doubt"]
        check_books(bed.daemon.ledger)


def test_a_stop_while_the_disk_is_failing(tmp_path: Path) -> None:
    """SIGTERM ends it all the same; what could not be written is in doubt at the next start."""
    with _under_way(tmp_path, tmp_path, server="drain_s = 2") as bed:
        _let_no_file_grow(bed)
        bed.check_refusal("the ledger cannot be", in_log=False)
        bed.daemon.stop(signal.SIGTERM)
        bed.daemon.start()
        books = bed.daemon.wait_done(bed.job)["books"]
        received = bed.arrivals.received("journal")
        assert books["sent"] == FOLLOWERS == len(received)
        assert repeats(received) <= books["in_doubt"]
        check_books(bed.daemon.ledger)


# -- a disk of its own ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 24 MB, where mounting is permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Take all the room that is left, but for so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        # Others write at the same time: page by page, until there is no more.
        while shutil.disk_usage(disk).free > leave_bytes:
            try:
                file.write(b"\0" * 4096)
            except OSError:
                break
    return filler


def test_a_full_disk_with_the_log_on_it(tmp_path: Path, small_disk: Path) -> None:
    """Ledger, log and identity on one disk that is full to the last byte."""
    with _under_way(small_disk, tmp_path, ledger="reserve_mb = 0") as bed:
        filler = _fill(small_disk)
        try:
            # The log is on the full disk: it can say nothing just now.
            bed.check_refusal("the ledger cannot be", in_log=False)
        finally:
            filler.unlink()
        bed.check_end()


def test_little_room_refuses_new_jobs_and_lets_accepted_ones_end(tmp_path: Path, small_disk: Path) -> None:
    with _under_way(small_disk, tmp_path, ledger="reserve_mb = 8") as bed:
        filler = _fill(small_disk, leave_bytes=7 * 1024 * 1024)
        reply = bed.daemon.call({"content": "no room", "key": "k2"})
        assert (reply["error"], reply["retry"]) == ("not_durable", True)
        assert "ledger.reserve_mb = 8" in reply["message"]
        assert "reserve_mb" in bed.daemon.call({"op": "info"})["ledger"]
        books = bed.daemon.wait_done(bed.job)["books"]
        assert (books["sent"], books["in_doubt"]) == (FOLLOWERS, 0)
        filler.unlink()
        assert bed.daemon.call({"content": "room", "key": "k2"})["ok"]


# -- others at the file, and the kernel ---------------------------------------------------------------------


def test_a_ledger_that_another_process_locks(tmp_path: Path) -> None:
    with _under_way(tmp_path, tmp_path) as bed:
        with closing(sqlite3.connect(bed.daemon.ledger, isolation_level=None)) as intruder:
            intruder.execute("PRAGMA busy_timeout = 10000")
            intruder.execute("BEGIN IMMEDIATE")
            bed.check_refusal("locked")
            intruder.execute("ROLLBACK")
        bed.check_end()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("calls", "error"),
    [
        # The commit's own fsync fails: whether it is on disk is read again, it is never just repeated.
        ("fsync,fdatasync", "EIO"),
        pytest.param("pwrite64", "EIO", marks=pytest.mark.long),
        # As on a disk that the kernel has made read-only after an error.
        ("pwrite64,ftruncate", "EROFS"),
    ],
)
def test_the_kernel_returns_an_error(tmp_path: Path, calls: str, error: str) -> None:
    with _under_way(tmp_path, tmp_path) as bed:
        with _strace(_pid(bed), calls, error, tmp_path):
            bed.check_refusal("the ledger cannot be")
        bed.check_end()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_who_follows_a_job_is_told_when_the_ledger_cannot_be_read(tmp_path: Path) -> None:
    with _under_way(tmp_path, tmp_path) as bed:
        with RawClient(bed.daemon.port) as client:
            client.send({"op": "tail", "job": bed.job, "every_s": 0.1})
            assert client.reply()["ok"]
            with _strace(_pid(bed), "pread64", "EIO", tmp_path):
                while (reply := client.reply())["ok"]:
                    pass
        assert (reply["error"], reply["retry"]) == ("not_durable", True)
        assert "the ledger cannot be read" in reply["message"]
        assert "Traceback" not in bed.daemon.log
        assert bed.daemon.wait_done(bed.job)["books"]["sent"] == FOLLOWERS


@contextmanager
def _strace(pid: int, calls: str, error: str, folder: Path) -> Iterator[None]:
    """Attached to all threads of a process; skips the test where that is not permitted."""
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    command = ["strace", "-f", "-qq", *inject, "-p", str(pid)]
    with (folder / "strace.log").open("wb") as log:
        tracer = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: _is_traced(pid) or tracer.poll() is not None, what="strace is attached")
        if tracer.poll() is not None:
            pytest.skip(f"no ptrace here: {(folder / 'strace.log').read_text().strip()[:200]}")
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)


def _is_traced(pid: int) -> bool:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
