"""Mass messages with the real process: counted at a foreign endpoint, and taken by the sandbox."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from bed.arrivals import NO_ANSWER
from bed.books import check_books
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import eventually, free_port
from bed.pushes import AES_KEY, TOKEN
from bed.site import TOKEN as ACCESS_TOKEN
from bed.site import openid, sqlite_site
from test_cli import broadcastd

from broadcastd.sandbox import Options, running_sandbox
from broadcastd.sandbox import openid as sandbox_openid

OUTSIDE_WINDOW = b'{"errcode":45015,"errmsg":"response out of time limit rid: 1-2-3"}'


class Wechat:
    """Answers by path: mass messages are taken once a `clientmsgid`, customer-service ones by `custom`."""

    def __init__(self, endpoint: CountingEndpoint) -> None:
        self.lists: list[dict[str, Any]] = []
        self.known: dict[str, int] = {}
        self.custom = OK
        self.mass: list[bytes] = []
        """What the next mass messages are answered, before they are taken."""
        endpoint.answer = self.answer

    def answer(self, path: str, body: dict[str, Any]) -> bytes:
        if "/mass/send" not in path:
            return self.custom
        self.lists.append(body)
        if self.mass:
            return self.mass.pop(0)
        is_new = body["clientmsgid"] not in self.known
        number = self.known.setdefault(body["clientmsgid"], 3147483685 + len(self.known))
        return b'{"errcode":%d,"errmsg":"rid: 1","msg_id":%d}' % (0 if is_new else 45065, number)

    @property
    def sizes(self) -> list[int]:
        return [len(one["touser"]) for one in self.lists]


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def wechat(endpoint: CountingEndpoint) -> Wechat:
    return Wechat(endpoint)


@contextmanager
def daemon(
    endpoint: CountingEndpoint, folder: Path, followers: int, *channels: str, **settings: Any
) -> Iterator[DaemonProcess]:
    site = sqlite_site(folder / "site.db", followers)
    with daemon_process(folder, endpoint.url, site, channels=list(channels), **settings) as daemon:
        yield daemon


def test_25_000_are_three_calls(endpoint: CountingEndpoint, wechat: Wechat, tmp_path: Path) -> None:
    with daemon(endpoint, tmp_path, 25_000, "mass") as process:
        job = process.wait_done(process.call({"content": "hello", "key": "1"})["job"])
        assert wechat.sizes == [10_000, 10_000, 5_000]
        everybody = [name for one in wechat.lists for name in one["touser"]]
        assert sorted(everybody) == [openid(number) for number in range(1, 25_001)]
        assert job["books"]["by_channel"] == {"mass": 25_000}
        assert (job["books"]["in_doubt"], job["books"]["balanced"]) == (0, True)
        assert [(one["chunk"], one["state"], one["size"], one["msg_id"]) for one in job["mass"]] == [
            (1, "sent", 10_000, 3147483685),
            (2, "sent", 10_000, 3147483686),
            (3, "sent", 5_000, 3147483687),
        ]
        report = process.call({"op": "report", "job": job["job"]})["report"]
        assert report["mass"] == job["mass"]
        assert process.call({"op": "verify", "report": report})["genuine"]
        (first, *_) = process.who(job["job"])
        assert (first["openid"], first["outcome"], first["channel"]) == (openid(1), "sent", "mass")
        check_books(process.ledger)
        # No faster than one a second, as WeChat allows 60 a minute.
        assert process.events("job_done")[0]["duration_s"] >= 2


def test_who_is_outside_the_window_gets_the_mass_message(
    endpoint: CountingEndpoint, wechat: Wechat, tmp_path: Path
) -> None:
    inside = {openid(number) for number in range(1, 301)}
    taken = wechat.answer
    endpoint.answer = lambda path, body: (
        taken(path, body) if "/mass/" in path else OK if body["touser"] in inside else OUTSIDE_WINDOW
    )
    with daemon(endpoint, tmp_path, 2_000, "custom", "mass") as process:
        job = process.wait_done(process.call({"content": "hello", "key": "1"})["job"])
        assert job["books"]["by_channel"] == {"custom": 300, "mass": 1_700}
        assert wechat.sizes == [1_700]
        assert not inside & set(wechat.lists[0]["touser"])
        check_books(process.ledger)


@pytest.mark.long  # a minute
def test_killed_between_the_commit_and_the_answer_the_same_bytes_go_again(
    endpoint: CountingEndpoint, wechat: Wechat, tmp_path: Path
) -> None:
    """The repeat waits for a minute: WeChat refuses the same `clientmsgid` sooner."""
    with daemon(endpoint, tmp_path, 1_000, "mass") as process:
        arrived, go_on = threading.Event(), threading.Event()
        taken = wechat.answer

        def hang(path: str, body: dict[str, Any]) -> bytes:
            answer = taken(path, body)
            arrived.set()
            go_on.wait(30)
            return answer

        endpoint.answer = hang
        job_id = process.call({"content": "hello", "key": "1"})["job"]
        assert arrived.wait(30)
        process.kill()
        endpoint.answer = taken
        go_on.set()
        process.start()
        waiting = process.job(job_id)
        assert [(one["state"], one["size"], one["calls"]) for one in waiting["mass"]] == [("asked", 1_000, 1)]
        job = process.wait_done(job_id)
        first, second = wechat.lists
        assert orjson.dumps(first) == orjson.dumps(second)
        assert len(wechat.known) == 1
        assert job["books"]["by_channel"] == {"mass": 1_000}
        assert (job["books"]["in_doubt"], job["books"]["balanced"]) == (1_000, True)
        assert job["mass"][0]["msg_id"] == 3147483685
        check_books(process.ledger)


def test_cancelled_with_a_message_in_doubt(
    endpoint: CountingEndpoint, wechat: Wechat, tmp_path: Path
) -> None:
    wechat.mass = [b'{"errcode":0,"errmsg":"ok","msg_id":1}', NO_ANSWER]
    with daemon(endpoint, tmp_path, 25_000, "mass") as process:
        job_id = process.call({"content": "hello", "key": "1"})["job"]
        eventually(lambda: process.events("mass_unanswered"), 60, "one is in doubt")
        reply = process.control("cancel", job_id)
        assert reply["ok"], reply
        job = process.wait_state(job_id, "cancelled")
        books = job["books"]
        assert books["balanced"]
        states = [one["state"] for one in job["mass"]]
        assert states[:2] == ["sent", "unknown"]
        assert (books["sent"], books["unknown"], books["in_doubt"]) == (
            10_000 + 5_000 * states.count("sent") - 5_000, 10_000, 10_000,
        )  # fmt: skip
        assert books["skipped"] == 25_000 - books["sent"] - books["unknown"]
        assert "mass_unanswered" in process.log
        check_books(process.ledger)


def test_no_quota_holds_the_job_and_resume_sends_the_same_list(
    endpoint: CountingEndpoint, wechat: Wechat, tmp_path: Path
) -> None:
    wechat.mass = [b'{"errcode":45028,"errmsg":"has no masssend quota rid: 1"}']
    with daemon(endpoint, tmp_path, 100, "mass") as process:
        job_id = process.call({"content": "hello", "key": "1"})["job"]
        held = process.wait_state(job_id, "held")
        assert "45028" in held["reason"]
        assert held["books"]["ended"] == 0
        assert process.control("resume", job_id)["ok"]
        job = process.wait_done(job_id)
        assert job["books"]["by_channel"] == {"mass": 100}
        assert [one["touser"] for one in wechat.lists] == [wechat.lists[0]["touser"]] * 2


async def test_the_sandbox_takes_them_and_its_event_tells_how_many_got_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/wechat/default"
    options = Options(
        inside=5,
        outside=20,
        token=ACCESS_TOKEN,
        callback={"url": url, "token": TOKEN, "aes_key": AES_KEY, "mode": "safe"},
    )
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_ID", options.app_id)
    more = (
        f'[callback]\nport = {port}\n[accounts.default.callback]\ntoken = "{TOKEN}"\naes_key = "{AES_KEY}"\n'
    )
    site = sqlite_site(tmp_path / "site.db", 0)
    _fill(tmp_path / "site.db", [sandbox_openid(number) for number in range(25)])

    def run(api: str) -> dict[str, Any]:
        with daemon_process(tmp_path, api, site, more=more, channels=["custom", "mass"]) as process:
            job_id = process.wait_done(process.call({"content": "hello"})["job"])["job"]

            def told() -> dict[str, Any] | None:
                job = process.job(job_id)
                return job if job["mass"][0]["status"] else None

            found: dict[str, Any] = eventually(told, 30, "the event has come")
            text = broadcastd("report", job_id, "-c", process.settings).stdout
            assert "20 in the list, sent, send success: 20 sent" in text
            return found

    async with running_sandbox(options) as sandbox:
        job = await asyncio.to_thread(run, sandbox.url)
        assert sandbox.summary()["by_endpoint"]["mass"] == {"0": 1}
    assert job["books"]["by_channel"] == {"custom": 5, "mass": 20}
    (chunk,) = job["mass"]
    assert (chunk["status"], chunk["state"], chunk["size"]) == ("send success", "sent", 20)
    assert [chunk[f"{name}_count"] for name in ("total", "filter", "sent", "error")] == [20, 20, 20, 0]


def _fill(path: Path, names: list[str]) -> None:
    with closing(sqlite3.connect(path)) as site:
        rows = list(enumerate(names, 1))
        site.executemany("INSERT INTO tp_receiver VALUES (?, ?, NULL, 1, 1)", rows)
        site.commit()


def test_config_check_warns_of_the_four_a_month(tmp_path: Path) -> None:
    site = sqlite_site(tmp_path / "site.db", 1)
    process = DaemonProcess(tmp_path, "http://127.0.0.1:1", site, channels=["custom", "mass"])
    done = broadcastd("config", "check", "-c", str(process.settings), "--json")
    (warning,) = orjson.loads(done.stdout)["warnings"]
    assert "one of the 4 that a follower may get in a month" in warning
