"""Alerts on their way: real SMTP and HTTP, and servers that are away, hang, or refuse."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import pytest
import structlog.testing
from bed.mail import hanging, mail_server
from bed.ports import free_port
from bed.receiver import receiver

from broadcastd.alert_settings import AlertSettings
from broadcastd.alerts import sending
from broadcastd.alerts.alerter import MOST_UNREAD, Alerter, tell_now
from broadcastd.alerts.policy import Alert
from broadcastd.alerts.sending import Patience, Sending, check, send_now
from broadcastd.alerts.texts import Text
from broadcastd.clock import SystemClock
from broadcastd.notices import Notice, NoticeKind
from broadcastd.retry import Backoff

AT_ONCE = Backoff(first_s=0.05, longest_s=0.2)
TEXT = Text("[broadcastd shop] 测试 <b>title</b>", "求購 <b>bold</b> [a](http://e) \\n & 100%\nsecond line\n")


@asynccontextmanager
async def running(one):
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(look):
    while not look():  # noqa: ASYNC110 - what is waited for is outside of the loop
        await asyncio.sleep(0.02)
    return look()


# -- one alert, once ---------------------------------------------------------------------------------------


def test_a_mail_is_plain_text_as_it_was_written():
    with mail_server() as server:
        (delivery,) = send_now([server.url], TEXT, "warning")
        assert (delivery.ok, delivery.service) == (True, f"mailto://127.0.0.1:{server.port}")
        (mail,) = server.mails
        assert (mail.title, mail.kind, mail.to) == (TEXT.title, "text/plain", ["ops@example.com"])
        assert mail.body.replace("\r\n", "\n").strip() == TEXT.body.strip()


def test_each_address_has_its_own_answer_and_none_waits_for_another():
    with mail_server() as server, receiver() as site:
        urls = [
            f"mailto://user:s3cret@127.0.0.1:{free_port()}?to=ops@example.com&from=b@example.com",
            "mailx://s3cret",
            f"json://127.0.0.1:{site.port}/s3cret-path",
            server.url,
        ]
        away, unknown, web, mail = send_now(urls, TEXT, "warning")
        assert (web.ok, mail.ok) == (True, True)
        assert (away.ok, away.hopeless) == (False, False)
        assert "refused" in away.why
        assert (unknown.ok, unknown.hopeless, unknown.why) == (False, True, "apprise knows no such service")
        assert "s3cret" not in repr([away.why, unknown.why, away.service, web.service])
        assert site.calls[0].json["title"] == TEXT.title


def test_a_server_that_hangs_keeps_no_other_waiting_and_is_given_up():
    with mail_server(started=False) as server, hanging(server.port), mail_server() as other:
        slow, quick = send_now([f"{server.url}&cto=1&rto=1", other.url], TEXT, "warning")
        assert (slow.ok, quick.ok) == (False, True)
        assert "timed out" in slow.why
        (slow,) = send_now([f"{server.url}&cto=60&rto=60"], TEXT, "warning", longest_s=1)
        assert (slow.ok, slow.why) == (False, "it did not answer in time")


def test_addresses_are_checked_without_sending_anything():
    with receiver() as site:
        urls = [f"json://127.0.0.1:{site.port}/x", "mailx://user:s3cret@h", "mailto://"]
        found = check(urls)
        assert [one.ok for one in found] == [True, False, False]
        assert found[1].why == "apprise knows no such service"
        assert found[2].why == "apprise cannot use it: something behind mailto:// is missing or wrong"
        assert site.calls == []


def test_for_commands_it_is_told_at_once():
    with mail_server() as server:
        settings = AlertSettings(urls=[server.url], language="zh", name="shop")
        (delivery,) = tell_now(settings, [Alert(NoticeKind.TEST, SystemClock().now())])
        assert delivery.ok
        assert server.mails[0].title == "[broadcastd shop] 这是一条测试"
        assert tell_now(AlertSettings(), [Alert(NoticeKind.TEST, SystemClock().now())]) == []


def test_a_daemon_does_not_carry_apprise():
    code = "import sys, broadcastd.app, broadcastd.alerts.alerter; sys.exit('apprise' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- in the daemon -----------------------------------------------------------------------------------------


async def test_what_is_not_taken_is_tried_again_until_the_server_is_back():
    with mail_server(started=False) as server, structlog.testing.capture_logs() as logs:
        async with running(Sending([server.url], Patience(AT_ONCE))) as sending_:
            sending_.put(TEXT, "test", "info")
            await until(lambda: [one for one in logs if one["event"] == "alert_not_sent"][1:])
            await asyncio.to_thread(server.start)
            await until(lambda: server.mails)
            await until(lambda: [one for one in logs if one["event"] == "alert_sent"])
        assert [mail.title for mail in server.mails] == [TEXT.title]
        first = next(one for one in logs if one["event"] == "alert_not_sent")
        assert first["service"] == f"mailto://127.0.0.1:{server.port}"
        assert "ops@example.com" not in repr(logs)


async def test_who_has_taken_it_is_not_told_again():
    with mail_server() as server, receiver() as site, structlog.testing.capture_logs() as logs:
        server.refuses = "554 not today"
        urls = [server.url, f"json://127.0.0.1:{site.port}/x"]
        async with running(Sending(urls, Patience(AT_ONCE))) as sending_:
            sending_.put(TEXT, "test", "info")
            await until(lambda: len([one for one in logs if one["event"] == "alert_not_sent"]) >= 2)
            server.refuses = ""
            await until(lambda: server.mails)
        assert len(site.calls) == 1


async def test_the_order_stays_and_one_address_keeps_no_other_waiting():
    with mail_server(started=False) as server, receiver() as site, structlog.testing.capture_logs() as logs:
        urls = [server.url, f"json://127.0.0.1:{site.port}/x"]
        async with running(Sending(urls, Patience(Backoff(first_s=300, longest_s=300)))) as sending_:
            sending_.put(Text("held", "text"), "job_held", "warning")
            await until(lambda: site.calls)
            await until(lambda: [one for one in logs if one["event"] == "alert_not_sent"])
            await asyncio.to_thread(server.start)
            # Long before the next try: that there is one more has it tried at once.
            sending_.put(Text("not held", "text"), "job_held", "success")
            await until(lambda: len(server.mails) == 2)
            await sending_.all_tried()
        assert [mail.title for mail in server.mails] == ["held", "not held"]
        assert [call.json["title"] for call in site.calls] == ["held", "not held"]


async def test_an_address_that_is_wrong_is_not_tried_again():
    with structlog.testing.capture_logs() as logs:
        async with running(Sending(["mailx://s3cret"], Patience(AT_ONCE))) as sending_:
            sending_.put(TEXT, "test", "info")
            await until(lambda: logs)
            await sending_.all_tried()
        assert [(one["event"], one["tried_again"]) for one in logs] == [("alert_not_sent", False)]
        assert "s3cret" not in repr(logs)


async def test_a_child_that_hangs_is_killed_and_so_is_one_of_a_daemon_that_stops(monkeypatch, tmp_path):
    note = tmp_path / "pids"
    code = f"import os, time; open({str(note)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)"
    monkeypatch.setattr(sending, "COMMAND", (sys.executable, "-c", code))

    def pids():
        return note.read_text().split() if note.exists() else []

    def gone(pid):
        return subprocess.run(["kill", "-0", pid], check=False, capture_output=True).returncode != 0

    with structlog.testing.capture_logs() as logs:
        sending_ = Sending(["json://localhost"], Patience(AT_ONCE, 1))
        async with running(sending_):
            sending_.put(TEXT, "test", "info")
            await until(lambda: len(pids()) >= 2)
            assert gone(pids()[0])
    assert logs[0]["error"] == "it did not answer in time"
    await until(lambda: gone(pids()[-1]))


async def test_when_too_many_wait_the_newest_stay():
    with structlog.testing.capture_logs() as logs:
        sending_ = Sending(["json://localhost"])
        for number in range(sending.MOST_WAITING + 3):
            sending_.put(Text(str(number), ""), "test", "info")
    assert [one.text.title for one in sending_._lines[0]._waiting][:2] == ["3", "4"]
    assert len([one for one in logs if one["event"] == "alert_dropped"]) == 3


async def test_notices_become_mails_and_the_last_ones_are_sent_before_the_end():
    with mail_server() as server:
        settings = AlertSettings(urls=[server.url], language="zh", name="shop", job_finished=True)
        async with running(Alerter(settings, SystemClock())) as alerter:
            reason = {"account": "default", "reason": "40164 not listed (channel custom)"}
            alerter.tell(Notice(NoticeKind.ACCOUNT_HELD, "default", reason))
            alerter.tell(Notice(NoticeKind.ACCOUNT_HELD, "default", reason))
            alerter.tell(Notice(NoticeKind.JOB_FINISHED, "j1", {"state": "done", "sent": 3}, lasts=False))
            await until(lambda: len(server.mails) == 2)
            alerter.tell(Notice(NoticeKind.ACCOUNT_HELD, "default", over=True))
            await alerter.flush()
        assert [mail.title for mail in server.mails] == [
            "[broadcastd shop] 微信拒绝公众号 default 的调用 (40164)",
            "[broadcastd shop] 任务 j1 已结束",
            "[broadcastd shop] 已恢复：微信恢复接受公众号 default 的调用",
        ]
        assert "含义：40164 调用接口的 IP 不在白名单" in server.mails[0].body


async def test_telling_never_waits_raises_or_grows(monkeypatch):
    alerter = Alerter(AlertSettings(urls=["json://localhost"]), SystemClock())
    with structlog.testing.capture_logs() as logs:
        for number in range(MOST_UNREAD + 5):
            alerter.tell(Notice(NoticeKind.JOB_HELD, f"j{number}"))
    assert [one["event"] for one in logs] == ["notice_dropped"] * 5


async def test_a_bug_in_telling_does_not_end_the_daemon(monkeypatch):
    with mail_server() as server, structlog.testing.capture_logs() as logs:
        settings = AlertSettings(urls=[server.url])
        async with running(Alerter(settings, SystemClock())) as alerter:
            alerter.tell(Notice(NoticeKind.JOB_HELD, "j1", 17))
            alerter.tell(Notice(NoticeKind.JOB_HELD, "j2", {"reason": "why"}))
            await until(lambda: server.mails)
        assert [one["event"] for one in logs if one["log_level"] == "error"] == ["alert_failed"]


@pytest.mark.parametrize("refuses", ["554 5.7.1 no", "451 try later"])
def test_why_a_mail_was_refused_is_said(refuses):
    with mail_server() as server:
        server.refuses = refuses
        (delivery,) = send_now([server.url], TEXT, "warning")
        assert not delivery.ok
        assert refuses[:3] in delivery.why
