"""A site is told of each job that has ended: by a real POST, by a statement, whatever is away."""

import asyncio
import hashlib
import hmac
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import structlog.testing
from bed.fakes import T0, FakeClock, Told, a_job, new_job
from bed.ledgers import SqliteHome
from bed.ports import free_port
from bed.receiver import receiver
from bed.site import mariadb_site, sqlite_site

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.finish_statement import FinishStatement
from broadcastd.delivery.finish_hooks import LEAST_TRIES, TOLD_AFTER_TRIES, TRIED_FOR, FinishHooks
from broadcastd.errors import LedgerUnavailableError
from broadcastd.finished_settings import FinishedSettings
from broadcastd.hooks.webhook import SIGNATURE, Webhook
from broadcastd.model import Books
from broadcastd.outcomes import Outcome
from broadcastd.settings import AudienceSettings
from broadcastd.states import JobState

SECRET = "0123456789abcdef"
ENDED = replace(
    a_job(),
    key="order-17", ref="post-17", state=JobState.DONE, finished_at=T0 + timedelta(seconds=90),
    books=Books(3, True, {Outcome.SENT: 2, Outcome.REJECTED: 1}, {"custom": 2}, {43004: 1}),
)  # fmt: skip


# -- the address -------------------------------------------------------------------------------------------


async def post(url, **how):
    hook = Webhook(FinishedSettings(url=url, secret=SECRET, **how))
    try:
        return await hook.tell(ENDED, T0)
    finally:
        await hook.close()


async def test_a_signed_post_says_how_a_job_ended():
    with receiver() as site:
        assert await post(site.url) == ""
        (call,) = site.calls
    assert call.path == "/told?shop=1"
    assert call.json == {
        "job": ENDED.id, "key": "order-17", "ref": "post-17", "account": "default", "state": "done",
        "reason": "", "round": 1, "accepted_at": "2026-01-31T00:00:00.000+00:00",
        "finished_at": "2026-01-31T00:01:30.000+00:00",
        "books": {
            "recipients": 3, "sent": 2, "rejected": 1, "failed": 0, "unknown": 0, "skipped": 0,
            "by_channel": {"custom": 2}, "errcodes": {"43004": 1}, "in_doubt": 0,
        },
    }  # fmt: skip
    at = int(T0.timestamp())
    mac = hmac.new(SECRET.encode(), f"{at}.".encode() + call.body, hashlib.sha256).hexdigest()
    assert call.headers[SIGNATURE] == f"t={at},v1={mac}"
    assert call.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [201, 204])
async def test_any_2xx_will_do(status):
    with receiver() as site:
        site.status = status
        assert await post(site.url) == ""


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_every_other_answer_is_none_and_a_redirect_is_not_followed(status):
    with receiver() as site:
        site.status = status
        assert (await post(site.url)).startswith(f"HTTP {status}")
        assert len(site.calls) == 1


async def test_a_site_that_is_away_or_hangs_is_said_in_words_without_its_address():
    assert await post(f"http://127.0.0.1:{free_port()}/s3cret") == "no answer: ClientConnectorError"
    with receiver() as site:
        site.answers.clear()
        assert await post(site.url, timeout_s=0.2) == "no answer within 0.2 s"


# -- the statement -----------------------------------------------------------------------------------------

SQL = (
    "UPDATE task SET status = 2, note = ':ref stays', n = :sent, of_all = :total, at = :finished_at,"
    " state = :state WHERE id = :ref"
)
TABLE = """
DROP TABLE IF EXISTS task;
CREATE TABLE task (id VARCHAR(32), status INTEGER, n INTEGER, of_all INTEGER, at VARCHAR(32),
 state VARCHAR(16), note VARCHAR(32));
INSERT INTO task (id, status) VALUES ('post-17', 1), ('post-18', 1);
"""


@pytest.fixture(params=["sqlite", "mariadb"])
async def database(request, tmp_path):
    if request.param == "sqlite":
        url = sqlite_site(tmp_path / "site.db", 1)
        with closing(sqlite3.connect(tmp_path / "site.db")) as site:
            site.executescript(TABLE)
    else:
        server = request.getfixturevalue("mariadb")
        url = mariadb_site(server, 1)
        server.run(TABLE)
    database = open_database(AudienceSettings(url=url, pool_size=1), writable=True)
    yield database
    await database.close()


async def rows(database):
    async with database.connection() as connection:
        found = await connection.exec_driver_sql("SELECT * FROM task ORDER BY id")
        return [tuple(row) for row in found.all()]


def statement(database, sql=SQL):
    return FinishStatement(database, FinishedSettings(sql=sql).sql, ZoneInfo("Asia/Shanghai"))


async def test_a_statement_has_the_job_by_name(database):
    assert await statement(database).tell(ENDED, T0) == ""
    assert await statement(database).tell(ENDED, T0) == "", "again does no harm"
    assert await rows(database) == [
        ("post-17", 2, 2, 3, "2026-01-31 08:01:30", "done", ":ref stays"),
        ("post-18", 1, None, None, None, None, None),
    ]


async def test_a_job_without_the_ref_that_it_names_is_left_out(database):
    with structlog.testing.capture_logs() as logs:
        assert await statement(database).tell(replace(ENDED, ref=None), T0) == ""
    assert logs[0]["event"] == "finish_hook_left_out"
    assert [row[1] for row in await rows(database)] == [1, 1]


async def test_a_statement_that_fails_is_said_in_words(database):
    assert "no_such" in await statement(database, "UPDATE no_such SET n = 1 WHERE id = :job").tell(ENDED, T0)


# -- again and again ---------------------------------------------------------------------------------------


class Hook:
    """Implements `FinishHook`: fails as often as the test says."""

    def __init__(self, name="url", fails=0):
        self.name, self.fails, self.told = name, fails, []

    async def tell(self, job, now):
        self.told.append(job.id)
        if self.fails:
            self.fails -= 1
            return "HTTP 500"
        return ""


class Scene:
    def __init__(self, home):
        self.home, self.ledger, self.clock, self.told = home, home.ledger, home.clock, Told()

    async def end(self, *ids):
        """Jobs of nobody: done at once."""
        for id in ids:
            job = (await self.ledger.accept(new_job(self.clock.now(), id=id), timedelta(0))).job
            await self.ledger.add_slices(job.no, [], planned=True, may_be_empty=True)

    async def run(self, *hooks, until, account="default"):
        one = FinishHooks(account, hooks, self.ledger, self.told, self.clock)
        task = asyncio.create_task(one.run())
        try:
            while not await until():
                assert not task.done()
                await asyncio.sleep(0)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def none_left(self):
        return not await self.ledger.untold("default", 0, 9)


@pytest.fixture
async def scene(tmp_path):
    home = SqliteHome(tmp_path, FakeClock())
    await home.open()
    scene = Scene(home)
    await scene.ledger.begin_telling(["default"], scene.clock.now())
    yield scene
    await home.kill()


async def test_each_hook_is_told_once_and_none_again_for_another_ones_trouble(scene):
    await scene.end("j1")
    sql, url = Hook("sql"), Hook("url", fails=3)
    await scene.run(sql, url, until=scene.none_left)
    assert sql.told == ["j1"]
    assert url.told == ["j1"] * 4
    assert scene.told.kinds == []


async def test_an_operator_is_told_of_a_site_that_does_not_answer_and_when_it_does(scene):
    await scene.end("j1")

    async def over():
        return scene.told.kinds[-1:] == ["hook_failing default over"]

    await scene.run(Hook(fails=TOLD_AFTER_TRIES), until=over)
    assert scene.told.kinds == ["hook_failing default", "hook_failing default over"]
    assert scene.told.notices[0].facts["reason"] == "url: HTTP 500"


async def test_after_a_day_it_is_given_up_and_that_is_said(scene):
    await scene.end("j1")
    with structlog.testing.capture_logs() as logs:
        await scene.run(hook := Hook(fails=10**9), until=scene.none_left)
    passed = scene.clock.now() - T0
    assert TRIED_FOR <= passed < TRIED_FOR + timedelta(minutes=11)
    assert 100 < len(hook.told) < 250
    assert [one["job"] for one in logs if one["event"] == "finish_given_up"] == ["j1"]
    assert "hook_failing default over" not in scene.told.kinds, "it never answered"
    given_up = [one for one in scene.told.notices if not one.lasts]
    assert [(one.about, one.facts["reason"]) for one in given_up] == [("j1", "given up: url: HTTP 500")]


async def test_what_ended_long_ago_is_tried_all_the_same(scene):
    await scene.end("j1")
    scene.clock.advance(10 * 86400)
    await scene.run(hook := Hook(fails=LEAST_TRIES - 1), until=scene.none_left)
    assert len(hook.told) == LEAST_TRIES
    assert [one for one in scene.told.notices if not one.lasts] == []


async def test_one_jobs_trouble_keeps_no_other_waiting(scene):
    class Picky(Hook):
        async def tell(self, job, now):
            await super().tell(job, now)
            return "HTTP 404" if job.id == "j1" else ""

    await scene.end("j1", "j2", "j3")

    async def only_the_first_is_left():
        return [job.id for job in await scene.ledger.untold("default", 0, 9)] == ["j1"]

    await scene.run(Picky(), until=only_the_first_is_left)
    assert scene.clock.now() - T0 < timedelta(seconds=2)


async def test_a_site_that_is_away_is_not_asked_for_each_of_many_jobs(scene):
    await scene.end(*(f"j{number}" for number in range(40)))
    hook = Hook(fails=3)
    await scene.run(hook, until=scene.none_left)
    assert len(hook.told) == 43


async def test_a_ledger_that_cannot_be_written_is_waited_for(scene, monkeypatch):
    await scene.end("j1")
    note, fails = scene.ledger.note_told, [1, 1]

    async def note_told(*what):
        if fails:
            fails.pop()
            raise LedgerUnavailableError
        await note(*what)

    monkeypatch.setattr(scene.ledger, "note_told", note_told)
    await scene.run(hook := Hook(), until=scene.none_left)
    assert hook.told == ["j1"], "what it knows is not told again for the ledger's trouble"


async def test_it_hears_of_its_own_jobs_ends(scene):
    hook = Hook()
    one = FinishHooks("default", [hook], scene.ledger, scene.told, scene.clock)
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0.05)
    await scene.end("j1")
    one.ended(replace(a_job(), account="other"))
    one.ended(a_job())
    while not hook.told:  # noqa: ASYNC110 - what is waited for is in a thread
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert hook.told == ["j1"]
