"""Two accounts in one daemon: whatever befalls the one, the other's jobs go on as if it were alone."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from bed.commands import finished
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site

LATENCY_S = 0.02
MANY, FEW = 40_000, 3_000
NOT_LISTED = b'{"errcode":40164,"errmsg":"invalid ip, not in whitelist rid: 1-2-3"}'
OTHER = """
[accounts.other]
api_base = "{api}"
channels = ["custom"]
[accounts.other.audience]
url = "{site}"
{more}
"""


class Bed:
    """A daemon with the accounts `default`, which is in trouble, and `other`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.troubled = stack.enter_context(counting_endpoint(LATENCY_S))
        self.well = stack.enter_context(counting_endpoint(LATENCY_S))
        self.site = folder / "default.db"
        self.url = sqlite_site(self.site, MANY)
        self.other_url = sqlite_site(folder / "other.db", FEW)
        self.daemon: DaemonProcess

    def start(self, more: str = "", api: str = "") -> None:
        other = OTHER.format(api=self.well.url, site=self.other_url, more="")
        self.daemon = self.stack.enter_context(
            daemon_process(self.folder, api or self.troubled.url, self.url, more=more + other)
        )

    def has_all_tasks(self) -> str:
        job = self.daemon.call({"content": "A"})["job"]
        eventually(lambda: self.daemon.call({"op": "info"})["tasks"]["busy"] == 60, 60, "all tasks are A's")
        return str(job)

    def other_is_done(self) -> None:
        job = self.daemon.call({"content": "B", "account": "other"})["job"]
        books = self.daemon.wait_done(job, within_s=60)["books"]
        assert books["sent"] == FEW
        assert self.well.received == dict.fromkeys(map(openid, range(1, FEW + 1)), 1)


def cli(daemon: DaemonProcess, *arguments: str, code: int = 0) -> str:
    """A command as an operator types it; what it says."""
    done = finished(*arguments, "-c", daemon.settings)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with ExitStack() as stack:
        yield Bed(tmp_path, stack)


def test_one_whose_wechat_hangs(bed: Bed) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(2000)
        bed.start(api=f"http://127.0.0.1:{silent.getsockname()[1]}")
        job = bed.has_all_tasks()
        eventually(lambda: bed.daemon.call({"op": "info"})["in_flight"] >= 100, 60, "calls hang")
        bed.other_is_done()
        # None of its calls has even timed out, after 30 s, when the other's job was over.
        assert bed.daemon.job(job)["books"]["ended"] == 0
        assert bed.daemon.events("wechat_answers_again") == []
        assert bed.daemon.call({"op": "info"})["accounts"]["default"]["wechat"] == "ok"


def test_one_that_is_held(bed: Bed) -> None:
    bed.start()
    job = bed.has_all_tasks()
    bed.troubled.answer = lambda path, body: NOT_LISTED
    held = bed.daemon.wait_state(job, "held")
    assert "40164" in held["reason"]
    calls = bed.troubled.calls
    bed.other_is_done()
    assert bed.troubled.calls == calls


def test_one_with_a_slow_rate(bed: Bed) -> None:
    bed.start(more="[accounts.default.custom]\nrate_per_s = 1\n")
    bed.has_all_tasks()
    eventually(lambda: bed.troubled.calls, 30)
    before = bed.troubled.calls
    bed.other_is_done()
    assert bed.troubled.calls - before < 15
    eventually(lambda: bed.troubled.calls > before + 2, 30, "and it goes on itself")


def test_one_whose_database_hangs(bed: Bed) -> None:
    bed.start()
    job = bed.has_all_tasks()
    with closing(sqlite3.connect(bed.site, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        eventually(lambda: _stands(bed.troubled), 60, "nobody of A is asked any more")
        bed.other_is_done()
        assert bed.daemon.job(job)["books"]["remaining"] > 0
    eventually(lambda: not _stands(bed.troubled), 90, "A goes on when its database is back")


def _stands(endpoint: CountingEndpoint) -> bool:
    """Whether for half a second no call comes."""
    before = endpoint.calls
    try:
        eventually(lambda: endpoint.calls > before, 0.5)
    except AssertionError:
        return True
    return False


def test_many_jobs_of_one_leave_the_other_its_half(bed: Bed) -> None:
    bed.start()
    for number in range(20):
        bed.daemon.call({"content": f"A {number}"})
    bed.has_all_tasks()
    eventually(lambda: bed.troubled.calls > 500, 60)
    before = bed.troubled.calls
    bed.other_is_done()
    # Its share is about a half, of tasks and machine: not many times as many as the other gets.
    assert bed.troubled.calls - before < 8 * FEW


def test_frames_and_commands_name_the_account(bed: Bed) -> None:
    bed.start()
    daemon = bed.daemon
    job = daemon.call({"content": "B", "account": "other", "key": "order-1"})["job"]
    same = daemon.call({"content": "B", "account": "default", "key": "order-1"})
    assert (same["ok"], same["repeat"]) == (True, False), "a key is an account's own"
    lines = daemon.call({"op": "jobs", "account": "other"})["jobs"]
    assert [line["job"] for line in lines] == [job]
    refused = daemon.call({"op": "rate", "per_second": 5})
    assert refused["message"] == "account is missing: which one? accepted: default, other"
    assert job in cli(daemon, "jobs", "--account", "other")
    assert same["job"] not in cli(daemon, "jobs", "--account", "other")
    text = cli(daemon, "rate", "custom", "--account", "other", "--per-second", "2.5", "--in-flight", "9")
    assert "changed until the next start" in text
    rates = {line.split()[0]: line.split() for line in cli(daemon, "rate", "custom").splitlines()}
    assert rates["other"][1:3] == ["custom", "2.5"]
    assert rates["other"][-2:] == ["9", "ok"]
    assert rates["default"][1:3] == ["custom", "unlimited"]
    assert "other/custom: " in cli(daemon, "info")
    assert ", 2.5 a second at most; ok" in cli(daemon, "info")


def test_wrong_values_of_rate_are_told(bed: Bed) -> None:
    bed.start()
    text = cli(bed.daemon, "rate", "--account", "other", "--per-second", "fast", code=2)
    assert "'fast'; accepted: a number above 0, or off" in text
    text = cli(bed.daemon, "rate", "--account", "third", code=5)
    assert "unknown account 'third'; accepted: default, other" in text
