"""Sockets from outside, as systemd hands them over, and what the daemon tells it: real ones."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient

# What systemd does: the sockets from descriptor 3 on, the environment in words, and then exec.
AS_SYSTEMD = 'exec 3<&{fd}; export LISTEN_PID=$$ LISTEN_FDS=1 {name}; exec "$0" "$@"'


class SocketDaemon(DaemonProcess):
    """`broadcastd run` with a listening socket of ours."""

    def __init__(self, folder: Path, api: str, audience: str, listening: socket.socket) -> None:
        super().__init__(folder, api, audience)
        self.settings.write_text(self.settings.read_text().replace(f"port = {self.port}", "port = 1"))
        self.port = listening.getsockname()[1]
        self._listening = listening
        self.name = "LISTEN_FDNAMES=broadcastd"

    def launch(self, *, cold: bool = False) -> None:
        del cold
        fd = self._listening.fileno()
        command = [sys.executable, "-m", "broadcastd", "run", "-c", str(self.settings)]
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", AS_SYSTEMD.format(fd=fd, name=self.name), *command],
                stdout=log, stderr=log, pass_fds=[fd],
            )  # fmt: skip


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        yield endpoint


@contextmanager
def _socket_daemon(
    folder: Path, endpoint: CountingEndpoint, host: str = "127.0.0.1"
) -> Iterator[SocketDaemon]:
    with socket.create_server((host, 0), backlog=4096) as listening:
        daemon = SocketDaemon(folder, endpoint.url, sqlite_site(folder / "site.db", 20), listening)
        try:
            yield daemon
        finally:
            daemon.close()


class Caller(threading.Thread):
    """Sends one frame after the other, each over a connection of its own, and notes what became of it."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(name=name)
        self._port = port
        self.ended = threading.Event()
        self.answers: list[dict[str, object]] = []
        self.trouble: list[str] = []

    def run(self) -> None:
        number = 0
        while not self.ended.wait(0.05):
            number += 1
            frame = {"content": "hello", "key": f"{self.name}-{number}", "to": [openid(1)]}
            try:
                with socket.create_connection(("127.0.0.1", self._port), 30) as connection:
                    # Leaves no port in TIME_WAIT that another test may want.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.sendall(json.dumps(frame).encode() + b"\n")
                    with connection.makefile("rb") as lines:
                        self.answers.append(json.loads(lines.readline() or b'{"ok":false,"error":"hung up"}'))
            except OSError as error:
                self.trouble.append(str(error))


def test_nobody_is_refused_while_it_starts_anew(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    with _socket_daemon(tmp_path, endpoint) as daemon:
        callers = [Caller(daemon.port, f"caller{number}") for number in range(4)]
        for caller in callers:
            caller.start()  # before the daemon: the first frames wait in the backlog
        try:
            for _ in range(3):
                daemon.start()
                done = [len(caller.answers) for caller in callers]
                eventually(
                    lambda done=done: all(len(one.answers) > n for one, n in zip(callers, done, strict=True)),
                    what="all callers go on",
                )
                assert daemon.stop() == 0
            daemon.start()
        finally:
            for caller in callers:
                caller.ended.set()
            for caller in callers:
                caller.join(60)
        answers = [answer for caller in callers for answer in caller.answers]
        assert [answer for answer in answers if not answer["ok"]] == []
        assert [caller.trouble for caller in callers] == [[]] * 4
        assert len({answer["job"] for answer in answers}) == len(answers)
        for answer in answers:
            daemon.wait_done(str(answer["job"]))
        assert endpoint.received == Counter({openid(1): len(answers)})


def test_who_has_just_come_in_is_answered_before_the_end(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    with _socket_daemon(tmp_path, endpoint) as daemon:
        daemon.start()
        with RawClient(daemon.port) as idle, RawClient(daemon.port) as slow:
            assert idle.ask({"op": "ping"})["ok"]
            slow.send('{"content":"begun before the end","key":"k"')
            assert daemon.call({"op": "ping"})["ok"]
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            eventually(lambda: daemon.events("draining"), what="it drains")
            slow.send("}\n")
            assert slow.reply()["state"] == "accepted"
            assert slow.hung_up()
            assert idle.hung_up()
        assert daemon.process.wait(30) == 0


def test_an_inherited_socket_is_held_to_the_same_rule(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    with _socket_daemon(tmp_path, endpoint, host="0.0.0.0") as daemon:
        daemon.launch()
        assert daemon.process is not None
        assert daemon.process.wait(60) == 4
        assert "listening on 0.0.0.0 (beyond loopback) needs server.token" in daemon.log


def test_a_socket_without_a_name_is_taken(tmp_path: Path, endpoint: CountingEndpoint) -> None:
    with _socket_daemon(tmp_path, endpoint) as daemon:
        daemon.name = ""
        daemon.start()
        assert daemon.stop() == 0


@contextmanager
def _systemd(path: str) -> Iterator[socket.socket]:
    """Where the daemon's words go."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + path[1:] if path.startswith("@") else path)
        listening.settimeout(30)
        yield listening


def _words(listening: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in listening.recv(4096).decode().splitlines())


def _until(listening: socket.socket, word: str) -> dict[str, str]:
    while word not in (words := _words(listening)):
        pass
    return words


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told_how_it_is(
    tmp_path: Path, endpoint: CountingEndpoint, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = f"{tmp_path}/n" if kind == "path" else f"@broadcastd-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    site = sqlite_site(tmp_path / "site.db", 20)
    daemon = DaemonProcess(tmp_path, endpoint.url, site)
    with _systemd(path) as systemd:
        try:
            daemon.launch()
            words = _until(systemd, "READY")
            assert words == {"READY": "1", "STATUS": f"port {daemon.port}, 0 jobs open"}
            assert daemon.call({"op": "ping"})["ok"]
            for _ in range(3):
                _until(systemd, "WATCHDOG")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)
            words = _until(systemd, "RELOADING")
            assert int(words["MONOTONIC_USEC"]) > 0
            assert _until(systemd, "READY")["READY"] == "1"
            # Who is stopped feeds no watchdog: what it had sent is read first.
            daemon.process.send_signal(signal.SIGSTOP)
            systemd.settimeout(1)
            with pytest.raises(TimeoutError):
                _until(systemd, "never")
            systemd.settimeout(30)
            daemon.process.send_signal(signal.SIGCONT)
            _until(systemd, "WATCHDOG")

            endpoint.latency_s = 2.5
            daemon.call({"content": "slow", "key": "k"})
            eventually(lambda: endpoint.calls > 0, what="sending has begun")
            daemon.process.send_signal(signal.SIGTERM)
            told = [_until(systemd, "STOPPING") for _ in range(2)]
            assert all(int(words["EXTEND_TIMEOUT_USEC"]) > 5e6 for words in told)
            assert "draining" in told[-1]["STATUS"]
            assert daemon.process.wait(30) == 0
        finally:
            daemon.close()
