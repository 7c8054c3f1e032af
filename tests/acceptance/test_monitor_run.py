"""`broadcastd monitor` against the real daemon: killed, hung, stuck, stopped; with a real mail server."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.ports import eventually, free_port
from bed.site import sqlite_site
from bed.watched import end, forget, look, mail_server, pid_of, restarts, starter, watch

from broadcastd.monitor.state import StateFile

DOES_NOT, AGAIN = "broadcastd does not answer", "over: broadcastd answers again"


@contextmanager
def silent_port() -> Iterator[int]:
    """Somebody listens, and never says anything, as a process that hangs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield listening.getsockname()[1]


def rename_table(site: Path, before: str, after: str) -> None:
    with closing(sqlite3.connect(site)) as connection:
        connection.execute(f"ALTER TABLE {before} RENAME TO {after}")
        connection.commit()


def not_running(folder: Path, port: int, url: str = "", **monitor: object) -> DaemonProcess:
    """A daemon's folder, in which nothing was ever started."""
    daemon = DaemonProcess(folder, "http://127.0.0.1:9", sqlite_site(folder / "site.db", 1))
    text = daemon.settings.read_text(encoding="utf-8").replace(f"port = {daemon.port}", f"port = {port}")
    daemon.settings.write_text(text, encoding="utf-8")
    watch(daemon, url or f"mailto://127.0.0.1:{free_port()}?to=a@b.example", **monitor)
    return daemon


def test_a_killed_and_a_hung_daemon_are_started_again_and_told(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint, mail_server() as (box, url):
        daemon = DaemonProcess(tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 50))
        watch(daemon, url, restart=starter(daemon))
        try:
            daemon.start()
            assert daemon.process is not None
            assert look(daemon).exit_code == 0
            endpoint.latency_s = 1e6
            job = daemon.call({"content": "hello"})["job"]
            daemon.kill()

            endpoint.latency_s = 0
            seen = look(daemon)
            assert seen.exit_code == 0, seen
            assert box.titles == [DOES_NOT, AGAIN]
            assert "Connection refused" in box.text(0)
            assert "it lasted" in box.text(1)
            assert daemon.wait_done(job)["books"]["balanced"]

            forget(daemon)
            os.kill(pid_of(daemon), signal.SIGSTOP)
            seen = look(daemon)
            assert seen.exit_code == 0, seen
            assert box.titles[2:] == [DOES_NOT, AGAIN]
            assert "does not answer within 5 s" in box.text(2)

            assert look(daemon).exit_code == 0
            assert len(box.mails) == 4
            assert restarts(daemon) == 2

            # Too soon for another restart. Who was told that it is back is told that it is not, once.
            os.kill(pid_of(daemon), signal.SIGKILL)
            seen = look(daemon)
            assert seen.exit_code == 1
            assert seen.done[0].startswith("not restarted again before")
            assert restarts(daemon) == 2
            assert box.titles[4:] == [DOES_NOT]
            assert f"Start it again: {starter(daemon)}" in " ".join(box.text(4).split())
            assert look(daemon).exit_code == 1
            assert len(box.mails) == 5
        finally:
            daemon.close()
            end(daemon)


def test_a_job_that_stands_still_and_a_site_that_is_away_are_told_without_a_restart(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint, mail_server() as (box, url):
        site = tmp_path / "site.db"
        daemon = DaemonProcess(tmp_path, endpoint.url, sqlite_site(site, 20), answer_timeout_s=100_000)
        watch(daemon, url, restart=starter(daemon), stuck_after_s=1)
        try:
            daemon.start()
            endpoint.latency_s = 1e6  # it takes every call, and never answers
            job = daemon.call({"content": "hello"})["job"]
            stuck = eventually(lambda: daemon.call({"op": "info"})["stuck"], what="it is stuck")
            assert [(one["job"], one["ours"]) for one in stuck] == [(job, False)]
            assert daemon.call({"op": "info"})["progress"] == "ok"
            for _ in range(2):
                seen = look(daemon)
                assert seen.exit_code == 1
                assert set(seen.troubles) == {"stuck"}
            assert box.titles == [f"job {job} does not move"]
            assert "calls to WeChat are under way" in box.text()

            endpoint.close()  # whoever waits is cut off
            endpoint.latency_s = 0
            endpoint.start()
            daemon.wait_done(job)
            eventually(lambda: not daemon.call({"op": "info"})["stuck"], what="it moves")
            assert look(daemon).exit_code == 0
            assert box.titles[1:] == [f"over: job {job} moves again"]

            # The next trouble: the site's database, and the disk.
            rename_table(site, "tp_receiver", "away")
            eventually(lambda: not daemon.call({"op": "canary"})["healthy"], what="the canary looks anew")
            seen = look(daemon, min_free_mb=10**9)
            assert set(seen.troubles) == {"plan", "disk"}, seen
            assert sorted(box.titles[2:]) == [
                "a post would not go through now: plan of account default",
                "the ledger's disk is nearly full",
            ]
            ping = [sys.executable, "-m", "broadcastd", "ping", "--canary", "-c", str(daemon.settings)]
            asked = subprocess.run(ping, capture_output=True, text=True, check=False)
            assert asked.returncode == 1
            assert asked.stdout.splitlines()[0].split() == ["intake", "ok"]
            assert "token ok" in asked.stdout
            rename_table(site, "away", "tp_receiver")
            eventually(lambda: daemon.call({"op": "canary"})["healthy"], what="it is well again")
            assert look(daemon).exit_code == 0
            assert len(box.mails) == 6
            assert restarts(daemon) == 0
            assert endpoint.received.total() >= 20
        finally:
            daemon.close()


def test_the_canary_makes_no_job_and_sends_nothing(tmp_path: Path) -> None:
    with (
        counting_endpoint() as endpoint,
        daemon_process(tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 20)) as daemon,
    ):
        threads = [
            threading.Thread(target=lambda: [daemon.call({"op": "canary"}) for _ in range(5)])
            for _ in range(20)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert daemon.call({"op": "canary"})["healthy"]
        assert daemon.call({"op": "jobs"})["jobs"] == []
        assert endpoint.calls == 0


def test_one_that_was_stopped_on_purpose_is_told_and_not_started(tmp_path: Path) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f"#!/bin/sh\necho $1 >> {tmp_path}/asked\necho LoadState=loaded\necho ActiveState=inactive\n"
    )
    systemctl.chmod(0o700)
    with mail_server() as (box, url):
        daemon = not_running(tmp_path, free_port(), url, restart=f"{systemctl} restart broadcastd")
        for _ in range(2):
            seen = look(daemon)
            assert seen.exit_code == 1
            assert "it was stopped, so nobody starts it but you" in seen.troubles["port"]
            assert not seen.done
        assert box.titles == [DOES_NOT]
        assert set((tmp_path / "asked").read_text().split()) == {"show"}
        look(daemon, restart_when_stopped=True, second_look_s=0)
        assert "restart" in (tmp_path / "asked").read_text().split()


def test_no_alert_and_no_restart(tmp_path: Path) -> None:
    with mail_server() as (box, url):
        daemon = not_running(tmp_path, free_port(), url, restart=f"touch {tmp_path}/started")
        seen = look(daemon, "--no-alert", "--no-restart")
        assert seen.exit_code == 1
        assert not seen.done
        assert not (tmp_path / "started").exists()
        assert not box.mails


def test_runs_do_not_overlap(tmp_path: Path) -> None:
    daemon = not_running(tmp_path, free_port())
    with StateFile(tmp_path / "monitor", str(daemon.settings.resolve())).locked():
        seen = look(daemon)
    assert (seen.exit_code, seen.out) == (0, "another run of the monitor is at it\n")
    assert look(daemon).exit_code == 1


def test_settings_that_cannot_be_used_are_said_on_stderr(tmp_path: Path) -> None:
    daemon = not_running(tmp_path, free_port())
    daemon.settings.write_text("[server]\nport = many\n")
    seen = look(daemon)
    assert (seen.exit_code, seen.out) == (4, "")
    assert "is not valid TOML" in seen.complaints
    seen = look(daemon, "-c", str(tmp_path / "missing.toml"))
    assert seen.exit_code == 4
    assert "missing.toml cannot be read" in seen.complaints


@pytest.mark.long
def test_a_run_ends_within_a_minute_whatever_hangs(tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/hanging\nexec sleep 1000\n")
    hangs.chmod(0o700)
    with silent_port() as port, silent_port() as mail:
        daemon = not_running(
            tmp_path, port, f"mailto://127.0.0.1:{mail}?from=a@b.example&to=c@d.example&mode=insecure",
            restart=str(hangs), second_look_s=40, timeout_s=15,
        )  # fmt: skip
        began_s = time.monotonic()
        seen = look(daemon)
        assert time.monotonic() - began_s < 60
        assert seen.exit_code == 1
        assert "it is still at it" in seen.done[0]
        assert '"tries":1' in next((tmp_path / "monitor").glob("*.json")).read_text()
    os.kill(int((tmp_path / "hanging").read_text()), signal.SIGKILL)
