"""The callback of the real daemon: opt-outs in a running job, a flood of pushes, outages, kills."""

import asyncio
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually, free_port
from bed.pushes import AES_KEY, APP_ID, TOKEN, Platform, Sent, event, template_finished, text
from bed.site import openid, sqlite_site

ANSWER_S = 5.0
"""WeChat hangs up after this."""


class Callback:
    """A daemon with a callback, its site, and WeChat's side of it."""

    def __init__(self, daemon: DaemonProcess, endpoint: CountingEndpoint, site: Path, port: int) -> None:
        self.daemon = daemon
        self.endpoint = endpoint
        self.site = site
        self.port = port

    async def push(self, client: aiohttp.ClientSession, sent: Sent) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.port}/wechat/default"
        async with client.post(url, params=sent.query, data=sent.body) as response:
            return response.status, await response.read()

    def pushed(self, sent: Sent) -> tuple[int, bytes]:
        """One push on a connection of its own."""

        async def run() -> tuple[int, bytes]:
            async with aiohttp.ClientSession() as client:
                return await self.push(client, sent)

        return asyncio.run(run())

    def says(self, follower: int, content: str, msg_id: int) -> bytes:
        """A follower's text; the reply."""
        status, body = self.pushed(Platform().plain(text(openid(follower), content, msg_id)))
        assert status == 200
        return body

    def receives(self, follower: int) -> int:
        """What the site's table says of a follower."""
        with closing(sqlite3.connect(self.site)) as site:
            query = "SELECT receive_status FROM tp_receiver WHERE id = ?"
            return int(site.execute(query, (follower,)).fetchone()[0])

    def info(self) -> Any:
        return self.daemon.call({"op": "info"})["accounts"]["default"]["callback"]


@contextmanager
def a_callback(
    folder: Path, followers: int = 20, latency_s: float = 0.0, settings: str = "", **daemon: Any
) -> Iterator[Callback]:
    port = free_port()
    more = (
        f"[callback]\nport = {port}\n[accounts.default.callback]\n"
        f'token = "{TOKEN}"\nopt_out_reply = "bye"\nopt_in_reply = "hello"\n{settings}\n'
    )
    url = sqlite_site(folder / "site.db", followers)
    with (
        counting_endpoint(latency_s) as endpoint,
        daemon_process(folder, endpoint.url, url, more=more, **daemon) as process,
    ):
        yield Callback(process, endpoint, folder / "site.db", port)


def test_nobody_is_sent_to_after_their_opt_out_was_confirmed(tmp_path: Path) -> None:
    """While a job runs, followers all over it opt out: the endpoint's own count is the judge."""
    followers, leaving = 3000, range(7, 3000, 15)
    with a_callback(tmp_path, followers, latency_s=0.1, pool="sends_per_task = 1\ntasks = 30") as callback:
        job = callback.daemon.call({"content": "a post"})["job"]
        eventually(lambda: callback.endpoint.calls > 50, what="the job runs")
        at_reply: dict[str, int] = {}

        async def leave(client: aiohttp.ClientSession, number: int) -> None:
            sent = Platform().plain(text(openid(number), "0", number))
            status, body = await callback.push(client, sent)
            at_reply[openid(number)] = callback.endpoint.received[openid(number)]
            assert status == 200
            assert b"bye" in body

        async def all_leave() -> None:
            async with aiohttp.ClientSession() as client:
                for at in range(0, len(leaving), 20):
                    await asyncio.gather(*(leave(client, one) for one in leaving[at : at + 20]))

        asyncio.run(all_leave())
        view = callback.daemon.wait_done(job)
        after = {one: callback.endpoint.received[one] for one in at_reply}
        assert after == at_reply
        assert len(at_reply) == len(leaving)
        skipped, sent = view["books"]["skipped"], view["books"]["sent"]
        assert skipped == sum(not count for count in after.values()) > 20
        assert sent == followers - skipped == sum(callback.endpoint.received.values())
        eventually(lambda: callback.info()["waiting"] == 0, what="the site knows")
        assert all(callback.receives(one) == 0 for one in leaving)
        # And who comes back is sent to again.
        assert b"hello" in callback.says(7, "1", 99999)
        eventually(lambda: callback.receives(7) == 1, what="the site knows")
        again = callback.daemon.call({"content": "another post"})["job"]
        callback.daemon.wait_done(again)
        assert callback.endpoint.received[openid(7)] == after[openid(7)] + 1
        assert callback.endpoint.received[openid(22)] == after[openid(22)]


def test_a_flood_of_pushes_while_a_job_runs(tmp_path: Path) -> None:
    """3,000 delivery events, each tried twice, as fast as they are answered."""
    followers = 3000
    sent: Counter[int] = Counter()

    def answer(path: str, body: dict[str, object]) -> bytes:
        del path
        number = int(str(body["touser"])[1:])
        sent[number] += 1
        return b'{"errcode":0,"errmsg":"ok","msgid":%d}' % (3557254367693750000 + number)

    with a_callback(tmp_path, followers, latency_s=0.05, channels=["template"]) as callback:
        callback.endpoint.answer = answer
        job = callback.daemon.call({"content": "a post"})["job"]
        took_s: list[float] = []
        platform = Platform()

        async def finish(client: aiohttp.ClientSession, number: int) -> None:
            status = "success" if number % 3 else "failed:user block"
            push = platform.plain(template_finished(openid(number), 3557254367693750000 + number, status))
            started_s = time.monotonic()
            assert await callback.push(client, push) == (200, b"success")
            took_s.append(time.monotonic() - started_s)

        async def flood() -> None:
            numbers = iter([number for number in range(1, followers + 1) for _ in range(2)])
            async with aiohttp.ClientSession() as client:

                async def worker() -> None:
                    for number in numbers:
                        await finish(client, number)

                await asyncio.gather(*(worker() for _ in range(50)))

        asyncio.run(flood())
        assert len(took_s) == 2 * followers
        assert max(took_s) < ANSWER_S
        view = callback.daemon.wait_done(job)
        assert view["books"]["sent"] == followers == len(sent)
        deliveries = {"template": {"delivered": 2000, "blocked": 1000}}
        view = eventually(
            lambda: (now := callback.daemon.job(job))["books"]["deliveries"] == deliveries and now,
            what="every delivery is complete",
        )
        report = callback.daemon.call({"op": "report", "job": job})["report"]
        assert report["deliveries"] == deliveries
        assert callback.daemon.call({"op": "verify", "report": report})["genuine"]
        ends = {one["openid"]: one["delivery"] for one in callback.daemon.who(job)}
        assert ends[openid(3)] == "blocked"
        assert Counter(ends.values()) == {"delivered": 2000, "blocked": 1000}
        assert callback.info()["received"] == 2 * followers


def test_the_sites_database_is_down_while_somebody_opts_out(tmp_path: Path) -> None:
    with a_callback(tmp_path) as callback:
        away = callback.site.with_name("away.db")
        callback.site.rename(away)
        assert b"bye" in callback.says(3, "０", 1)
        view = eventually(
            lambda: (now := callback.info())["site"] != "ok" and now, what="the outage is told of"
        )
        assert view["waiting"] == 1
        away.rename(callback.site)
        eventually(lambda: callback.receives(3) == 0, 60, "the site knows")
        eventually(lambda: callback.info()["site"] == "ok")
        job = callback.daemon.call({"content": "a post"})["job"]
        assert callback.daemon.wait_done(job)["books"]["sent"] == 19
        assert callback.endpoint.received[openid(3)] == 0


def test_a_kill_between_the_answer_and_the_statement(tmp_path: Path) -> None:
    with a_callback(tmp_path) as callback:
        away = callback.site.with_name("away.db")
        callback.site.rename(away)
        assert b"bye" in callback.says(3, "0", 1)
        assert b"bye" in callback.says(4, "0", 2)
        assert b"hello" in callback.says(4, "1", 3)
        job = callback.daemon.call({"content": "a post"})["job"]
        callback.daemon.kill()
        away.rename(callback.site)
        callback.daemon.start()
        callback.daemon.wait_done(job)
        assert callback.endpoint.received[openid(3)] == 0
        # The audience may be frozen between the two statements.
        assert callback.endpoint.received[openid(4)] <= 1
        eventually(lambda: (callback.receives(3), callback.receives(4)) == (0, 1), what="the site knows")
        eventually(lambda: callback.info()["waiting"] == 0)
        # The tries of the same pushes that come after it change nothing.
        assert b"bye" in callback.says(4, "0", 2)
        assert callback.receives(4) == 1


def test_encrypted_pushes_replays_and_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_ID", APP_ID)
    with a_callback(tmp_path, settings=f'aes_key = "{AES_KEY}"') as callback:
        platform = Platform()
        zero, one = (platform.safe(text(openid(3), content, no)) for no, content in enumerate("01", 1))
        for _ in range(4):
            status, body = callback.pushed(zero)
            assert status == 200
            assert "<Content><![CDATA[bye]]></Content>" in platform.opened(body)
        eventually(lambda: callback.receives(3) == 0)
        assert "hello" in platform.opened(callback.pushed(one)[1])
        eventually(lambda: callback.receives(3) == 1)
        assert "bye" in platform.opened(callback.pushed(zero)[1])  # a replay: answered, and that is all
        assert callback.pushed(platform.plain(text(openid(3), "0", 9))) == (403, b"")
        assert callback.pushed(Platform(token="somebody0else").safe(text(openid(3), "0", 9))) == (403, b"")
        assert callback.pushed(platform.safe("no push")) == (400, b"")
        job = callback.daemon.call({"content": "a post"})["job"]
        assert callback.daemon.wait_done(job)["books"]["sent"] == 20
        view = callback.info()
        assert (view["path"], view["received"], view["refused"]) == ("/wechat/default", 6, 3)
        assert (view["applied"], view["waiting"]) == (2, 0)
        for secret in (TOKEN, AES_KEY):
            assert secret not in callback.daemon.log


def test_followers_who_go_and_come(tmp_path: Path) -> None:
    with a_callback(tmp_path, settings='opt_out_sql = ""') as callback:
        platform = Platform()
        assert callback.pushed(platform.plain(event(openid(2), "unsubscribe"))) == (200, b"success")
        eventually(lambda: callback.receives(2) == 0, what="the site knows")
        # Without a statement of its own, the ledger alone keeps an opt-out, over a restart too.
        assert b"bye" in callback.says(3, "0", 1)
        callback.daemon.kill()
        callback.daemon.start()
        assert callback.receives(3) == 1
        job = callback.daemon.call({"content": "a post"})["job"]
        books = callback.daemon.wait_done(job)["books"]
        assert (books["sent"], books["skipped"]) == (18, 1)
        assert callback.endpoint.received[openid(3)] == 0


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with a_callback(tmp_path) as callback:
        folder = tmp_path / "other"
        folder.mkdir()
        other = DaemonProcess(folder, callback.endpoint.url, f"sqlite:///{callback.site}")
        text_of = callback.daemon.settings.read_text(encoding="utf-8")
        other.settings.write_text(
            re.sub(r"^port = \d+", f"port = {other.port}", text_of, count=1, flags=re.M), encoding="utf-8"
        )
        try:
            other.launch()
            assert other.process is not None
            assert other.process.wait(30) != 0
            assert "callback.port" in other.log
        finally:
            other.close()
