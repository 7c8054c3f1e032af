"""Who holds the port's places, never reads, drips bytes or comes from elsewhere keeps nobody out."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import sqlite_site
from bed.wire import RawClient

PING = {"op": "ping"}
Start = Callable[..., DaemonProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A daemon with these settings of its server."""
    with ExitStack() as stack:

        def started(server: str, followers: int = 1, **more: Any) -> DaemonProcess:
            endpoint: CountingEndpoint = stack.enter_context(counting_endpoint())
            url = sqlite_site(tmp_path / "site.db", followers)
            return stack.enter_context(daemon_process(tmp_path, endpoint.url, url, server=server, **more))

        yield started


@contextmanager
def crowd(daemon: DaemonProcess, many: int, address: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """So many connections from one address."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 30, (address, 0)))
            for _ in range(many)
        ]


def resident_kb(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def cpu_s(daemon: DaemonProcess) -> float:
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_idle_connections_give_way_to_whoever_comes(start: Start) -> None:
    daemon = start("max_connections = 40")
    with crowd(daemon, 200), RawClient(daemon.port) as payer:
        for _ in range(3):
            assert payer.ask(PING)["ok"]
            with crowd(daemon, 30):  # the payer has spoken more recently than those
                assert daemon.call({"content": "paid"})["ok"]
    assert daemon.events("idle_hung_up")
    assert len(daemon.events("idle_hung_up")) < 5


def test_half_frames_give_way_too_and_running_frames_do_not(start: Start) -> None:
    daemon = start("max_connections = 20", followers=0)
    job = daemon.call({"content": "held"})["job"]
    with RawClient(daemon.port) as watcher:
        watcher.send({"op": "tail", "job": job, "every_s": 0.1})
        watcher.reply()
        with crowd(daemon, 19) as halves:
            for one in halves:
                one.sendall(b'{"op":')
            with crowd(daemon, 60):
                assert daemon.call(PING)["ok"]
                for _ in range(3):
                    assert watcher.reply()["ok"]
            with suppress(ConnectionResetError):
                assert halves[0].recv(1) == b""


def test_only_when_all_are_at_work_a_newcomer_is_told_to_come_again(start: Start) -> None:
    daemon = start("max_connections = 3", followers=0)
    job = daemon.call({"content": "held"})["job"]
    with ExitStack() as stack:
        for _ in range(3):
            watcher = stack.enter_context(RawClient(daemon.port))
            watcher.send({"op": "tail", "job": job, "every_s": 60})
            assert watcher.reply()["ok"]
        with RawClient(daemon.port) as late:
            reply = late.reply()
            assert (reply["error"], reply["retry"]) == ("busy", True)
            assert late.hung_up()
        # A little later one of those who only look on gives way.
        eventually(lambda: daemon.call(PING)["ok"], what="there is room")


def test_an_address_has_a_limit_of_its_own(start: Start) -> None:
    daemon = start("max_connections_per_address = 5")
    with RawClient(daemon.port) as mine:
        assert mine.ask(PING)["ok"]
        with crowd(daemon, 50, "127.0.0.9"):
            assert mine.ask(PING)["ok"]
            assert daemon.call(PING)["ok"]
    assert daemon.events("idle_hung_up")


def test_only_allowed_networks_come_in(start: Start) -> None:
    daemon = start('allow = ["127.0.0.1/32"]')
    for _ in range(10):
        with crowd(daemon, 1, "127.0.0.9") as (stranger,):
            stranger.settimeout(30)
            assert stranger.recv(1) == b""
    assert daemon.call(PING)["ok"]
    (line,) = daemon.events("stranger_refused")
    assert line["address"] == "127.0.0.9"


@pytest.mark.parametrize("bytes_sent", [b'{"op":"p', b"\n"], ids=["of a frame", "blanks"])
def test_dripping_bytes_puts_nothing_off(start: Start, bytes_sent: bytes) -> None:
    daemon = start("frame_timeout_s = 1\nidle_timeout_s = 1\nquiet_ms = 100")
    with RawClient(daemon.port) as client:
        client.send(bytes_sent)
        client.socket.settimeout(0.03)
        began = time.monotonic()
        while time.monotonic() - began < 20:
            try:
                client.socket.sendall(b" ")
                answered = client.socket.recv(100)
            except TimeoutError:
                continue
            except ConnectionError:
                answered = b""
            break
        assert time.monotonic() - began < 10
    assert answered == b"" or b"too_slow" in answered


def test_a_flood_of_wrong_tokens_keeps_the_right_one_in_and_the_log_short(start: Start) -> None:
    daemon = start('token = "open-sesame"\nmax_connections = 20')
    with crowd(daemon, 60) as guessers:
        for number, one in enumerate(guessers[-20:]):
            one.sendall(b'{"op":"ping","token":"guess-%d"}\n' % number * 50)
        for _ in range(5):
            assert daemon.call({**PING, "token": "open-sesame"})["ok"]
        for one in guessers[-20:]:
            one.close()
    assert 0 < len(daemon.events("frame_refused")) <= 60


def test_without_a_descriptor_left_nothing_spins_and_it_goes_on_afterwards(start: Start) -> None:
    daemon = start("idle_timeout_s = 30")
    assert daemon.process is not None
    most = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    assert most[0] == most[1]  # raised at the start
    few = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())) + 20
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (few, most[1]))
    with crowd(daemon, 100):
        eventually(lambda: daemon.events("connection_lost"), what="no descriptor is left")
        before_s = cpu_s(daemon)
        began = time.monotonic()
        assert daemon.call(PING)["ok"]  # who was idle longest made room
        assert cpu_s(daemon) - before_s < 0.5 * max(1.0, time.monotonic() - began)
        assert len(daemon.events("connection_lost")) < 3
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, most)
    eventually(lambda: daemon.call(PING)["ok"], what="it goes on")


@pytest.mark.parametrize("many", [20, pytest.param(200, marks=pytest.mark.long)])
def test_who_never_reads_fills_no_memory_and_is_cut(start: Start, many: int) -> None:
    daemon = start(f"reply_timeout_s = 3\nmax_connections = {10 * many}", followers=3000, cold=True)
    job = daemon.wait_done(daemon.call({"content": "x"})["job"])["job"]
    before_kb = resident_kb(daemon)
    frames = (
        b'{"op":"who","job":"%s"}\n' % job.encode() * 50,
        b'{"op":"ping"}\n' * 20_000,
        b'{"op":"tail","job":"%s"}\n' % job.encode() * 500,
    )
    with crowd(daemon, many) as readers:
        for number, one in enumerate(readers):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.send(frames[number % len(frames)])
        eventually(lambda: daemon.events("reader_cut_off"), what="cut off")
        assert daemon.call(PING)["ok"]
        grown_kb = resident_kb(daemon) - before_kb
        # Who asks for little at a time has to wait in turn for it, and so is never full.
        eventually(lambda: len(daemon.events("reader_cut_off")) >= many // 3, 60, "cut off")
    assert grown_kb < 8_000 + 200 * many, grown_kb
    assert not daemon.events("frame_failed")


@pytest.mark.long
def test_five_thousand_connections_are_cheap(start: Start) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    daemon = start("max_connections = 5000", cold=True)
    before_kb = resident_kb(daemon)
    with crowd(daemon, 5000) as all_of_them:
        for one in all_of_them:
            one.sendall(b'{"op":"ping"}\n')
        for one in all_of_them:
            assert one.recv(1000)
        grown_kb = resident_kb(daemon) - before_kb
        assert daemon.call(PING)["ok"]
    assert grown_kb < 5000 * 24, grown_kb
