"""The other end of the wire, for the CLI: one frame out, its reply lines back. Blocking."""

import socket
from collections.abc import Iterator
from typing import Any

import orjson

from broadcastd.errors import NoDaemonError

CONNECT_S = 5.0


def call(host: str, port: int, frame: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
    """Send one frame and return its reply. Raises NoDaemonError."""
    for reply in stream(host, port, frame, timeout_s):
        return reply
    raise NoDaemonError(f"{host}:{port} hung up without a reply")


def stream(host: str, port: int, frame: dict[str, Any], timeout_s: float | None) -> Iterator[dict[str, Any]]:
    """Send one frame and yield its reply lines until the other side hangs up. Raises NoDaemonError."""
    try:
        with socket.create_connection((host, port), CONNECT_S) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE))
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as lines:
                for line in lines:
                    yield _reply(line, host, port)
    except OSError as error:
        why = error.strerror or str(error)
        raise NoDaemonError(f"no daemon answers on {host}:{port}: {why}") from error


def _reply(line: bytes, host: str, port: int) -> dict[str, Any]:
    try:
        reply = orjson.loads(line)
    except ValueError as error:
        raise NoDaemonError(f"what listens on {host}:{port} is not broadcastd") from error
    if not isinstance(reply, dict) or "ok" not in reply:
        raise NoDaemonError(f"what listens on {host}:{port} is not broadcastd")
    return reply
