"""Whoever means ill on the port, in crowds or with odd frames, while a job runs: neither takes harm."""

import json
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from bed.attackers import Attack, Attackers
from bed.books import check_books
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.odd_frames import streams
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient
from hypothesis import HealthCheck, given, settings

from broadcastd.wire.turnstile import FRAMES_AT_ONCE, FRAMES_PER_S

FEW = Attack(idle=500, slow=50, deaf=50, garbage_per_s=50, addresses=100)
MANY = Attack(idle=5000, slow=200, deaf=200, garbage_per_s=50, addresses=250)
PER_IDLE_KB, PER_BUSY_KB = 12, 512
"""What one connection may cost: one that is silent; one that has sent half a frame, or does not read."""
SPARE_KB = 16 * 1024
ANSWER_WITHIN_S = 2.0
"""The client library's whole patience."""


class Pinger(threading.Thread):
    """A newcomer a moment: connects, pings, leaves. `waits_s`: how long each had to wait."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(name="pinger")
        self._daemon = daemon
        self._ended = threading.Event()
        self.waits_s: list[float] = []
        self.trouble: list[str] = []

    def run(self) -> None:
        while not self._ended.wait(0.2):
            began = time.monotonic()
            try:
                with RawClient(self._daemon.port, 20) as client:
                    reply = client.ask({"op": "ping"})
                if not reply["ok"]:
                    self.trouble.append(str(reply))
            except (OSError, AssertionError) as error:
                self.trouble.append(repr(error))
            self.waits_s.append(time.monotonic() - began)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


@contextmanager
def job_under_way(
    folder: Path, per_s: int, for_s: int, server: str = ""
) -> Iterator[tuple[DaemonProcess, str]]:
    """A daemon that sends a job at an even pace. At the end it must be unharmed: each follower got it once,
    its books balance, and nothing in the log speaks of a bug.
    """
    followers = per_s * for_s
    pace = f"[accounts.default.custom]\nrate_per_s = {per_s}"
    with (
        counting_endpoint() as endpoint,
        daemon_process(
            folder, endpoint.url, sqlite_site(folder / "site.db", followers),
            server=server, more=pace, channels=["custom"], cold=True,
        ) as daemon,
    ):  # fmt: skip
        job = daemon.call({"content": "undisturbed", "key": "paid"})["job"]
        yield daemon, job
        assert daemon.wait_done(job, for_s + 60)["books"]["sent"] == followers
        reached = [endpoint.received[openid(number)] for number in range(1, followers + 1)]
        assert set(reached) == {1}
        check_books(daemon.ledger)
        assert_no_bug(daemon)


def assert_no_bug(daemon: DaemonProcess) -> None:
    """The log is whole lines of JSON, none of an incident."""
    assert not daemon.events("frame_failed")
    lines = daemon.log.splitlines()
    assert [line for line in lines if not line.startswith("{") or json.loads(line)["level"] == "error"] == []


def attacked(daemon: DaemonProcess, job: str, attack: Attack, until_share: float) -> Counter[str]:
    """Attack until this share of the job is sent; what became of the attackers."""
    before_kb = daemon.memory_kb()
    with Attackers(daemon.port, replace(attack, who=job, tail=job)) as attackers, Pinger(daemon) as pinger:
        recipients = daemon.job(job)["books"]["recipients"]
        eventually(lambda: daemon.job(job)["books"]["ended"] >= until_share * recipients, 900, "progress")
    grown_kb = daemon.memory_kb() - before_kb
    waits_s = sorted(pinger.waits_s)
    figures = (
        f"memory +{grown_kb / 1024:.0f} MB; {len(waits_s)} pings, median {waits_s[len(waits_s) // 2]:.3f} s,"
        f" slowest {waits_s[-1]:.3f} s; {dict(attackers.counts)}"
    )
    print(figures)
    assert pinger.trouble == [], figures
    assert waits_s[int(len(waits_s) * 0.95)] < ANSWER_WITHIN_S, figures
    most_kb = attack.idle * PER_IDLE_KB + (attack.slow + attack.deaf) * PER_BUSY_KB + SPARE_KB
    assert grown_kb < most_kb, figures
    return attackers.counts


def test_a_job_is_unharmed_by_crowds_at_the_port(tmp_path: Path) -> None:
    quick = "max_connections = 2000\nframe_timeout_s = 1\nreply_timeout_s = 1"
    with job_under_way(tmp_path, per_s=300, for_s=12, server=quick) as (daemon, job):
        counts = attacked(daemon, job, FEW, until_share=0.9)
        assert counts["idle_cut"] == 0
        assert counts["slow_cut"] > FEW.slow
        assert counts["deaf_cut"] > 0
        refused = {line["error"] for line in daemon.events("frame_refused")}
        assert {"too_slow", "bad_json", "bad_frame"} <= refused
        assert daemon.events("reader_cut_off")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("server", ["max_connections = 6000", ""], ids=["all let in", "default limits"])
def test_a_job_is_unharmed_by_great_crowds_for_minutes(tmp_path: Path, server: str) -> None:
    with job_under_way(tmp_path, per_s=500, for_s=180, server=server) as (daemon, job):
        counts = attacked(daemon, job, MANY, until_share=0.95)
        assert counts["slow_cut"] > MANY.slow
        assert counts["deaf_cut"] > 0


@pytest.mark.timeout(1800)
def test_no_frame_does_harm(tmp_path: Path, long_run: bool) -> None:
    with job_under_way(tmp_path, per_s=100, for_s=240 if long_run else 12) as (daemon, job):

        @settings(
            max_examples=20_000 if long_run else 300,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(streams([job]))
        def throw(pieces: list[bytes]) -> None:
            thrown(daemon.port, pieces)

        before_kb = daemon.memory_kb()
        throw()
        print(f"memory +{(daemon.memory_kb() - before_kb) / 1024:.0f} MB")
        assert daemon.memory_kb() - before_kb < SPARE_KB
        with RawClient(daemon.port) as client:
            assert client.ask({"op": "ping"})["ok"]


def thrown(port: int, pieces: list[bytes]) -> None:
    """Bring them, end, and look at the answers: lines of JSON, no bug among them, then the end."""
    with RawClient(port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.send(piece)
            client.end()
            answered = client.rest()
        except OSError:
            return  # hung up on before everything was brought
    for line in answered.splitlines():
        reply = json.loads(line)
        assert reply["ok"] or reply["error"] != "internal", (pieces, reply)


def test_who_asks_hundreds_of_things_in_one_go_keeps_nobody_waiting(tmp_path: Path) -> None:
    with job_under_way(tmp_path, per_s=50, for_s=1) as (daemon, job), RawClient(daemon.port) as greedy:
        began = time.monotonic()
        greedy.send(b'{"op":"ping"}\n' * FRAMES_AT_ONCE + b'{"op":"job","job":"%s"}\n' % job.encode() * 100)
        with Pinger(daemon) as pinger:
            replies = [greedy.reply() for _ in range(FRAMES_AT_ONCE + 100)]
        assert time.monotonic() - began > 99 / FRAMES_PER_S
        assert [reply.get("op") for reply in replies] == ["ping"] * FRAMES_AT_ONCE + [None] * 100
        assert pinger.trouble == []
        assert pinger.waits_s
        assert max(pinger.waits_s) < ANSWER_WITHIN_S


def test_a_browser_or_curl_is_hung_up_on_at_its_first_letter(tmp_path: Path) -> None:
    with job_under_way(tmp_path, per_s=50, for_s=1) as (daemon, _):
        for letter in ("G", "P", "O", "\x16"):
            with RawClient(daemon.port) as client:
                client.send(letter)
                reply = client.reply()
                assert reply["error"] == "bad_frame"
                assert client.hung_up()
        frame = '{"content":"by way of curl"}'
        url = f"http://127.0.0.1:{daemon.port}/"
        for arguments in (["-d", frame], ["-d", f"\n{frame}\n"], ["-T", "-"], ["-H", f"X: {frame}"], []):
            curl = subprocess.run(
                ["curl", "-sS", "--max-time", "20", *arguments, url],
                input=frame.encode(), capture_output=True, check=False,
            )  # fmt: skip
            assert curl.returncode not in (0, 28), (arguments, curl)
        contents = {one["content"] for one in daemon.call({"op": "jobs"})["jobs"]}
        assert contents == {"undisturbed"}


def test_ncat_as_people_use_it(tmp_path: Path) -> None:
    with job_under_way(tmp_path, per_s=50, for_s=1) as (daemon, _):
        there = ["ncat", "127.0.0.1", str(daemon.port)]
        frame = b'{"content":"by way of ncat","to":["odd-one"]}'
        # Sends and leaves without a line end and without reading.
        subprocess.run([*there, "--send-only"], input=frame, check=True, timeout=20)
        eventually(
            lambda: "by way of ncat" in {one["content"] for one in daemon.call({"op": "jobs"})["jobs"]}
        )
        # Ends its side, and reads.
        asked = subprocess.run(
            there, input=b'{"op":"ping"}\n', stdout=subprocess.PIPE, check=True, timeout=20
        )
        assert json.loads(asked.stdout)["op"] == "ping"
        # Stays open after a bare object: answered once it falls silent.
        with subprocess.Popen(there, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as left_open:
            assert left_open.stdin is not None
            assert left_open.stdout is not None
            left_open.stdin.write(b'{"op":"info"}')
            left_open.stdin.flush()
            assert json.loads(left_open.stdout.readline())["op"] == "info"
