"""Small servers that do what a test says, on loopback, and write down what they got."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

Play = Callable[["Scripted", socket.socket], None]


class Scripted:
    """Each connection plays the next of `plays`; the last one is played for ever."""

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.lines: list[bytes] = []
        self.connections = 0
        self.stopped = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(sock)
            play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
            thread = threading.Thread(target=self._play, args=(play, sock))
            self.threads.append(thread)
            thread.start()

    def _play(self, play: Play, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            play(self, sock)

    def read(self, sock: socket.socket) -> dict[str, Any]:
        line = sock.makefile("rb").readline()
        if line.endswith(b"\n"):
            self.lines.append(line)
        return json.loads(line)

    def stop(self) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def scripted(*plays: Play) -> Iterator[Scripted]:
    server = Scripted(*plays)
    try:
        yield server
    finally:
        server.stop()


def answer(server: Scripted, sock: socket.socket) -> None:
    """Take the job in, as broadcastd does."""
    frame = server.read(sock)
    reply = {"ok": True, "job": f"j-{frame.get('key')}", "state": "accepted", "key": frame.get("key")}
    if "op" in frame:
        reply = {"ok": True, "op": frame["op"], "version": "9", "seen": frame}
    elif frame.get("dry_run"):
        reply = {"ok": True, "dry_run": True, "recipients": 3}
    sock.sendall(json.dumps(reply).encode() + b"\n")


def refuse(code: str, retry: bool) -> Play:
    """Refuse what comes."""

    def play(server: Scripted, sock: socket.socket) -> None:
        server.read(sock)
        reply = {"ok": False, "error": code, "message": f"it is {code}", "retry": retry}
        sock.sendall(json.dumps(reply).encode() + b"\n")

    return play


def hang_up(server: Scripted, sock: socket.socket) -> None:
    """Read the frame and close: the answer is lost."""
    server.read(sock)


def stay_silent(server: Scripted, sock: socket.socket) -> None:
    """Read the frame and never answer."""
    server.read(sock)
    server.stopped.wait()


def dribble(server: Scripted, sock: socket.socket) -> None:
    """Answer a byte at a time, without end."""
    server.read(sock)
    sock.sendall(b"{")
    while not server.stopped.wait(0.01):
        sock.sendall(b" ")


def say(raw: bytes) -> Play:
    """Answer with these bytes and close."""

    def play(server: Scripted, sock: socket.socket) -> None:
        server.read(sock)
        sock.sendall(raw)

    return play


def tell(*replies: dict[str, Any]) -> Play:
    """Answer a frame with these lines and close."""
    return say(b"".join(json.dumps(reply).encode() + b"\n" for reply in replies))


def free_port() -> int:
    """A port where nobody listens (for now)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
