"""An audience sync while WeChat, the token or the database have their moods. No pause is waited for."""

import asyncio
import threading
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from bed.fakes import FakeClock, FakeTokens
from bed.site import openid, sqlite_site
from bed.user_list import user_list

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.followers_table import SqlFollowersTable
from broadcastd.channels.user_list import WechatUserList
from broadcastd.channels.wechat import WechatApi
from broadcastd.delivery.audience_sync import PASS_LIFE, AudienceSync, End
from broadcastd.errors import AudienceUnavailableError
from broadcastd.outcomes import Answer
from broadcastd.settings import AudienceSettings, HttpSettings
from broadcastd.sync_ports import Stage
from broadcastd.transports import open_transport

PEOPLE = [openid(number) for number in range(10)]
NO_ANSWER = b"<html>502 Bad Gateway</html>"


class Watcher:
    def __init__(self):
        self.waits = []
        self.resumes = []
        self.passes = []

    def resumed(self, last):
        self.resumes.append(last)

    def advanced(self, last):
        self.passes.append(last)

    def waiting(self, why, pause_s):
        self.waits.append(why)


class Bench:
    """A sync of ten followers in pages of four, with parts that a test may replace."""

    def __init__(self, path, endpoint):
        self.endpoint = endpoint
        self.clock = FakeClock()
        self.tokens = FakeTokens()
        self.watcher = Watcher()
        self.calls_a_day = 500
        self.api = WechatApi(endpoint.url, open_transport(HttpSettings(), 1))
        self.database = open_database(AudienceSettings(url=sqlite_site(path, 0)), writable=True)
        self.table = SqlFollowersTable(
            self.database, "broadcastd_followers", "default", ZoneInfo("Asia/Shanghai")
        )

    async def sync(self, *, anew=False, force=False):
        self.watcher.__init__()
        one = AudienceSync(
            self.table, WechatUserList(self.api), self.tokens, self.clock, self.watcher, self.calls_a_day
        )
        return await one.run("one", lambda _: False, anew=anew, force=force)


@pytest.fixture
async def bench(tmp_path):
    with user_list(PEOPLE, page_size=4) as endpoint:
        one = Bench(tmp_path / "site.db", endpoint)
        await one.table.make()
        yield one
        await one.api.close()
        await one.database.close()
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


def says(bench, *answers, at=None):
    """These answers first, at the page that begins `at` or at any; then the pages."""
    left = list(answers)
    bench.endpoint.answer = lambda after, _: left.pop(0) if left and at in (None, after) else None


def error(errcode):
    return {"errcode": errcode, "errmsg": "said so"}


@pytest.mark.parametrize(
    "answers",
    [
        [NO_ANSWER, b"", b"{}", b'{"total":"many"}', b"[1]"],
        [500, 302, 503, 412, 429],
        [error(-1), error(-1), error(45011), error(99999), error(-1)],
        [{"total": 10, "count": 5, "data": {"openid": ["oa"]}, "next_openid": "oa"}],
    ],
)
async def test_a_mood_is_waited_out(bench, answers):
    says(bench, *answers, at=PEOPLE[3])
    result = await bench.sync()
    assert (result.end, result.last.seen, result.last.pages) == (End.COMPLETE, 10, 3)
    assert result.calls_today == 3 + len(answers)
    assert len(bench.watcher.waits) == len(answers) == len(bench.clock.slept)


async def test_45011_waits_for_the_next_minute(bench):
    says(bench, error(45011))
    assert (await bench.sync()).end is End.COMPLETE
    assert bench.clock.slept == [60]


async def test_a_mood_without_end_ends_the_sync_and_what_is_done_stays(bench):
    says(bench, *[500] * 6, at=PEOPLE[3])
    result = await bench.sync()
    assert (result.end, result.words) == (End.TROUBLE, "WeChat does not answer: HTTP 500")
    assert (result.last.seen, result.last.stage) == (4, Stage.LISTING)
    result = await bench.sync()
    assert (result.end, result.last.seen) == (End.COMPLETE, 10)
    assert bench.watcher.resumes[0].pages == 1


@pytest.mark.parametrize("errcode", [40001, 40014, 42001])
async def test_a_stale_token_is_replaced_once_a_page(bench, errcode):
    bench.endpoint.answer = lambda after, token: error(errcode) if token == "token-1" else None
    result = await bench.sync()
    assert (result.end, result.calls_today) == (End.COMPLETE, 4)
    assert (bench.tokens.discarded, bench.clock.slept) == (["token-1"], [])


async def test_tokens_that_are_never_good(bench):
    bench.endpoint.answer = lambda after, token: error(42001)
    result = await bench.sync()
    assert result.end is End.TROUBLE
    assert "42001" in result.words
    assert len(bench.endpoint.calls) == 7  # six tries, and one at once with a new token


@pytest.mark.parametrize(("retry_in_s", "pauses"), [(7.0, 5), (60.0, 0)])
async def test_a_token_that_cannot_be_had(bench, retry_in_s, pauses):
    bench.tokens.unavailable, bench.tokens.retry_in_s = "the app_secret is wrong", retry_in_s
    result = await bench.sync()
    assert (result.end, result.words) == (End.TROUBLE, "the app_secret is wrong")
    assert (bench.endpoint.calls, len(bench.clock.slept)) == ([], pauses)


@pytest.mark.parametrize("total", [10, 0])
async def test_ends_of_the_list(bench, total):
    end = {"total": total, "count": 0, "next_openid": PEOPLE[-1]}
    bench.endpoint.points_on_at_the_end = True
    bench.endpoint.answer = lambda after, _: end if after == PEOPLE[-1] else None
    result = await bench.sync()
    assert (result.end, result.last.seen, result.last.pages) == (End.COMPLETE, 10, 4)


async def test_a_list_that_points_at_itself(bench):
    turn = {"total": 10, "count": 1, "data": {"openid": ["oa"]}, "next_openid": PEOPLE[3]}
    bench.endpoint.answer = lambda after, _: turn if after else None
    result = await bench.sync()
    assert (result.end, result.last.seen) == (End.TROUBLE, 4)
    assert "points at itself" in result.words


async def test_the_follower_where_it_was_to_go_on_has_left(bench):
    says(bench, *[500] * 6, at=PEOPLE[3])
    await bench.sync()
    says(bench, error(40003), at=PEOPLE[3])
    result = await bench.sync()
    assert (result.end, result.last.no, result.last.seen) == (End.COMPLETE, 2, 10)
    bench.endpoint.answer = lambda after, _: error(40003) if after else None
    result = await bench.sync()
    assert result.end is End.TROUBLE  # not for ever
    assert "40003" in result.words
    assert result.last.gone == 0


@pytest.mark.parametrize(
    ("days", "anew", "no"), [(0, False, 1), (PASS_LIFE.days, False, 1), (4, False, 2), (0, True, 2)]
)
async def test_an_old_pass_is_begun_anew(bench, days, anew, no):
    says(bench, *[500] * 6, at=PEOPLE[3])
    await bench.sync()
    bench.clock.advance(timedelta(days=days).total_seconds() - (60 if days == PASS_LIFE.days else 0))
    result = await bench.sync(anew=anew)
    assert (result.end, result.last.no, result.last.seen) == (End.COMPLETE, no, 10)


async def test_a_database_that_is_away_for_a_moment(bench, monkeypatch):
    add, gone = bench.table.add, bench.table.mark_gone
    away = [True, True, False, True, True, False, True]

    async def shaky(*arguments, **options):
        if away and away.pop(0):
            raise AudienceUnavailableError("the site's database cut the connection")
        done = await (gone if not options else add)(*arguments, **options)
        if away and away.pop(0):  # the commit is there, its answer is not
            raise AudienceUnavailableError("the site's database cut the connection")
        return done

    monkeypatch.setattr(bench.table, "add", shaky)
    monkeypatch.setattr(bench.table, "mark_gone", shaky)
    result = await bench.sync()
    assert (result.end, result.last.seen, result.last.pages, result.last.inserted) == (
        End.COMPLETE, 10, 3, 10,
    )  # fmt: skip
    assert len(bench.watcher.waits) == 5
    assert away == []


async def test_broken_off_while_the_gone_are_marked(bench, monkeypatch):
    await bench.sync()
    bench.endpoint.followers = PEOPLE[:6]
    with monkeypatch.context() as patch:
        patch.setattr(bench.table, "mark_gone", _cut)
        with pytest.raises(ConnectionResetError):
            await bench.sync()
    calls = len(bench.endpoint.calls)
    result = await bench.sync()
    assert (result.end, result.last.no, result.last.gone) == (End.COMPLETE, 2, 4)
    assert len(bench.endpoint.calls) == calls


async def test_who_was_marked_before_the_answer_was_lost_is_counted(bench, monkeypatch):
    await bench.sync()
    bench.endpoint.followers = PEOPLE[:6]
    mark_gone, lost = bench.table.mark_gone, [True]

    async def marks_and_does_not_answer(*arguments):
        done = await mark_gone(*arguments)
        if lost and lost.pop():
            raise AudienceUnavailableError("the site's database cut the connection")
        return done

    monkeypatch.setattr(bench.table, "mark_gone", marks_and_does_not_answer)
    assert (await bench.sync()).last.gone == 4


async def _cut(*_):
    raise ConnectionResetError


async def test_an_endless_page_is_not_read(bench):
    says(bench, *[b'{"total":1,"x":"' + b"x" * 5_000_000 + b'"}'] * 6)
    result = await bench.sync()
    assert (result.end, result.words) == (
        End.TROUBLE, "WeChat does not answer: an answer far too long for WeChat",
    )  # fmt: skip


async def test_wechat_that_is_not_there(bench):
    bench.api._api_base = "http://127.0.0.1:1"
    result = await bench.sync()
    assert result.end is End.TROUBLE
    assert result.words.startswith("WeChat cannot be reached: no connection")
    assert "token-1" not in result.words


async def test_the_token_does_not_follow_a_redirect(bench):
    assert await WechatUserList(bench.api).page("", "token-1") is not None
    bench.endpoint.answer = lambda after, token: 302
    assert await WechatUserList(bench.api).page("", "token-1") == Answer(unanswered="HTTP 302")
    assert len(bench.endpoint.calls) == 2
