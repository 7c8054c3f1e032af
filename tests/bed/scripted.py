"""A daemon that says what a test tells it to say, and commands run against it within the test's process."""

import json
import socketserver
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from broadcastd.cli.main import main

Answer = bytes | Iterable[dict[str, Any]]


class ScriptedDaemon:
    """Each connection brings one frame and gets the next of `answers`: lines as they come, or bytes."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.frames: list[dict[str, Any]] = []
        self.received: list[bytes] = []
        daemon = self

        class Connection(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline()
                daemon.received.append(line)
                daemon.frames.append(json.loads(line))
                with suppress(ConnectionError):  # the command may have seen enough
                    for line in _lines(daemon.answers.pop(0)):
                        self.wfile.write(line)

        self._server = socketserver.TCPServer(("127.0.0.1", 0), Connection)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _lines(answer: Answer) -> Iterable[bytes]:
    if isinstance(answer, bytes):
        return [answer]
    return (json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in answer)


@contextmanager
def scripted_daemon(*answers: Answer) -> Iterator[ScriptedDaemon]:
    daemon = ScriptedDaemon(*answers)
    try:
        yield daemon
    finally:
        daemon.close()


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """The fixture `run`."""

    def __call__(self, *arguments: str | int) -> Ran: ...


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str | int) -> Ran:
    """Run a command as `python -m broadcastd` does."""
    code: Any = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    return Ran(int(code or 0), captured.out, captured.err)


def refusal(code: str, message: str = "no", **more: Any) -> dict[str, Any]:
    """A daemon's no."""
    return {"ok": False, "error": code, "message": message, "retry": False, **more}


def job_reply(state: str = "done", **more: Any) -> dict[str, Any]:
    """A whole job, as `job` and the controls answer with it."""
    books = {
        "recipients": 1200, "planned": True, "ended": 700, "remaining": 500, "sent": 690, "rejected": 5,
        "failed": 5, "unknown": 0, "skipped": 0, "by_channel": {"custom": 690}, "errcodes": {"40003": 5},
        "in_doubt": 0, "balanced": False,
    }  # fmt: skip
    return {
        "ok": True, "job": "j1", "state": state, "reason": "", "waits_for": "", "account": "default",
        "key": "order-17", "ref": None, "flag": None, "content": "求購玉米", "phone": "110", "test": False,
        "channels": ["custom"], "accepted_at": "2026-11-24T10:00:00.000+00:00", "started_at": None,
        "finished_at": None, "first_sent_at": None, "last_sent_at": None, "not_before": None,
        "not_after": None, "on_unknown": "resend",
        "round": {"no": 1, "only": None, "recipients": 1200, "ended": 700}, "books": books, **more,
    }  # fmt: skip
