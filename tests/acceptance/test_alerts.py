"""What an operator reads: the real daemon, real mail, and mail servers that hang or are away meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.daemon import daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.mail import MailServer, hanging, mail_server
from bed.ports import eventually
from bed.sandboxes import sandbox_process
from bed.site import TOKEN, sqlite_site
from bed.wire import RawClient

FOLLOWERS = 500
NOT_LISTED = b'{"errcode":40164,"errmsg":"invalid ip, not in whitelist rid: 1-2-3"}'


def alerts(server: MailServer, more: str = "") -> str:
    url = server.url + "&cto=1&rto=1"
    return f'[alerts]\nurls = ["{url}"]\nlanguage = "zh"\nname = "shop"\n{more}\n'


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        yield endpoint


def test_an_account_that_wechat_refuses_and_takes_again(tmp_path: Path, mail: MailServer) -> None:
    site = sqlite_site(tmp_path / "site.db", 20)
    with sandbox_process("--token", TOKEN, "--quota", "all=0") as sandbox:
        sandbox.control("behaviour", {"errors": {"40164": 1}})
        with daemon_process(tmp_path, sandbox.url, site, server=alerts(mail)) as daemon:
            job = daemon.call({"content": "求購", "key": "order-17"})["job"]
            held = mail.wait_for("微信拒绝公众号 default 的调用 (40164)")
            assert held.title.startswith("[broadcastd shop] ")
            assert "含义：40164 调用接口的 IP 不在白名单" in held.body
            assert "怎么办：" in held.body
            assert "broadcastd resume" in held.body
            sandbox.control("behaviour", {"errors": {}})
            daemon.control("resume", job)
            mail.wait_for("已恢复：微信恢复接受公众号 default 的调用")
            daemon.wait_done(job)
        assert [one.title.count("(40164)") for one in mail.mails] == [1, 0], (
            "one of each, and none of the job"
        )
        assert mail.url not in daemon.log
        assert "ops@example.com" not in daemon.log


def test_a_frame_that_is_refused_and_one_that_only_asks(
    tmp_path: Path, mail: MailServer, endpoint: CountingEndpoint
) -> None:
    site = sqlite_site(tmp_path / "site.db", 1)
    with daemon_process(tmp_path, endpoint.url, site, server=alerts(mail)) as daemon:
        assert not daemon.call({"op": "job", "job": "no-such-job"})["ok"]
        bad = {"content": "求購二手挖掘機\u001b[2J <b>一台", "key": "order-18", "flag": -3}
        assert daemon.call(bad)["error"] == "bad_frame"
        first = mail.wait_for("一条群发被拒绝")
        assert "key：order-18\n" in first.body.replace("\r\n", "\n")
        assert "内容：求購二手挖掘機\\x1b[2J <b>一台" in first.body
        assert "错误：bad_frame" in first.body
        assert "flag" in first.body
        with RawClient(daemon.port) as client:  # the old client's: not JSON, and it leaves
            client.send(b'{"content": oops}\n')
        assert daemon.stop() == 0
        assert [one.title for one in mail.mails] == [first.title], "the next one comes after 10 minutes"


def test_a_mail_server_that_hangs_and_one_that_is_away_slow_no_send(
    tmp_path: Path, endpoint: CountingEndpoint
) -> None:
    site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
    with mail_server(started=False) as server:
        settings = alerts(server, "job_finished = true")
        with daemon_process(tmp_path, endpoint.url, site, server=settings) as daemon:
            with hanging(server.port):
                assert not daemon.call({"content": "a post", "flag": "x"})["ok"]
                books = daemon.wait_done(daemon.call({"content": "a post"})["job"], within_s=30)["books"]
                assert (books["sent"], books["balanced"], books["in_doubt"]) == (FOLLOWERS, True, 0)
            job = daemon.call({"content": "another"})["job"]
            daemon.wait_done(job, within_s=30)
            endpoint.answer = lambda path, body: NOT_LISTED
            held = daemon.call({"content": "a third"})["job"]
            daemon.wait_state(held, "held")
            eventually(lambda: daemon.events("alert_not_sent"), what="it is tried while nobody takes it")
            server.start()
            for words in ("一条群发被拒绝", job, "40164"):
                server.wait_for(words)
            finished = server.wait_for(job, "已结束")
            assert "已发送：500" in finished.body
            endpoint.answer = lambda path, body: OK
            daemon.control("resume", held)
            daemon.wait_done(held)
            daemon.stop()
            assert len(daemon.events("alert_sent")) == len(server.mails)


def test_what_was_held_before_a_restart_is_not_told_again_at_once(
    tmp_path: Path, mail: MailServer, endpoint: CountingEndpoint
) -> None:
    site = sqlite_site(tmp_path / "site.db", 0)
    with daemon_process(tmp_path, endpoint.url, site, server=alerts(mail)) as daemon:
        job = daemon.call({"content": "to nobody"})["job"]
        mail.wait_for(f"任务 {job} 已搁置，等待处理")
        daemon.kill()
        daemon.start()
        daemon.control("cancel", job)
        mail.wait_for(f"已恢复：任务 {job} 不再搁置")
        assert len(mail.mails) == 2


def test_a_daemon_that_stops_sends_its_last_alert(
    tmp_path: Path, mail: MailServer, endpoint: CountingEndpoint
) -> None:
    site = sqlite_site(tmp_path / "site.db", 1)
    with daemon_process(tmp_path, endpoint.url, site, server=alerts(mail)) as daemon:
        assert not daemon.call({"content": ""})["ok"]
        assert daemon.stop() == 0
        (last,) = mail.mails
        assert "错误：bad_content" in last.body
