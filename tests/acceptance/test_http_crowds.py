"""Whoever holds the HTTP port's places, drips a body or guesses tokens keeps nobody else out."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from bed.certificates import Authority
from bed.daemon import DaemonProcess, daemon_process
from bed.http_port import HttpClient, client_of, http_settings
from bed.ports import eventually
from bed.site import sqlite_site

from broadcastd.wire.connection import WRONG_TOKEN_S

NOWHERE = "http://127.0.0.1:9"
HEAD = (
    b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)
TOKEN = "open-sesame-open-sesame"
WRONG = {"Authorization": "Bearer wrong"}
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
Start = Callable[..., tuple[DaemonProcess, HttpClient]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A daemon with these settings of [http]."""
    with ExitStack() as stack:

        def started(http: str, server: str = "") -> tuple[DaemonProcess, HttpClient]:
            site = sqlite_site(tmp_path / "site.db", 1)
            settings = {"server": server, **http_settings(http)}
            daemon = stack.enter_context(daemon_process(tmp_path, NOWHERE, site, **settings))
            return daemon, client_of(daemon)

        yield started


@contextmanager
def crowd(port: int, many: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        there = []
        for _ in range(many):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            with suppress(ConnectionError):
                one.sendall(says)
            there.append(one)
        yield there


def is_hung_up(one: socket.socket) -> bool:
    one.settimeout(20)
    try:
        return one.recv(100) == b""
    except ConnectionResetError:
        return True


def says_nothing_of_it(daemon: DaemonProcess) -> None:
    assert "Traceback" not in daemon.log
    assert "never retrieved" not in daemon.log


@pytest.mark.parametrize("says", [b"", b"POST /jobs HTTP/1.1\r\n", HEAD + b"{"])
def test_who_holds_all_places_gives_way_and_fills_no_log(start: Start, says: bytes) -> None:
    daemon, http = start("max_connections = 200")
    with crowd(http.port, 250, says) as there:
        for _ in range(3):
            assert http.get("/healthz").status == 200
        assert is_hung_up(there[0])
    assert http.get("/healthz").status == 200
    says_nothing_of_it(daemon)


def test_a_stranger_is_hung_up_on_without_a_word(start: Start) -> None:
    daemon, http = start('allow = ["127.0.0.2"]')
    with crowd(http.port, 20) as there:
        assert all(map(is_hung_up, there))
    says_nothing_of_it(daemon)


def test_who_guesses_a_token_waits(start: Start) -> None:
    daemon, http = start("max_connections = 5", f'token = "{TOKEN}"')
    for ask in (
        lambda: http.get("/metrics", **WRONG),
        lambda: http.get("/jobs"),
        lambda: http.post({"content": "x", "token": "wrong"}),
    ):
        began = time.monotonic()
        assert ask().status == 401
        assert time.monotonic() - began >= WRONG_TOKEN_S
    assert http.get("/jobs", **RIGHT).status == 200

    done = threading.Event()

    def guess() -> None:
        while not done.is_set():
            with suppress(OSError):
                http.get("/jobs", **WRONG)

    guessers = [threading.Thread(target=guess) for _ in range(10)]
    for one in guessers:
        one.start()
    try:
        eventually(lambda: daemon.events("frame_refused"))
        for _ in range(5):  # they may push each other out; who has the right token is answered at once
            eventually(lambda: _is_in(http))
    finally:
        done.set()
        for one in guessers:
            one.join()
    says_nothing_of_it(daemon)


def _is_in(http: HttpClient) -> bool:
    try:
        return http.get("/jobs", **RIGHT).status == 200
    except OSError:
        return False


def test_a_guess_at_what_only_adds_to_an_answer_waits_too(start: Start, tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    ours.issue("server", "127.0.0.1")
    tls = 'host = "0.0.0.0"\ntls_cert = "server.pem"\ntls_key = "server.key"'
    daemon, _ = start(tls, f'token = "{TOKEN}"')
    http = client_of(daemon, ssl.create_default_context(cafile=ours.ca))
    began = time.monotonic()
    assert http.get("/readyz", **WRONG).json == {"status": "ready"}
    assert time.monotonic() - began >= WRONG_TOKEN_S
    assert "parts" in http.get("/readyz", **RIGHT).json
