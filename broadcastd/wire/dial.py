"""The other end of the wire, for the CLI: one frame out, its reply lines back. Blocking."""

import contextlib
import socket
import ssl
import time
from collections.abc import Generator
from typing import Any

import orjson

from broadcastd.errors import NoDaemonError

CONNECT_S = 5.0
AGAIN_S = 1.1
"""Above `tls.LOOK_S`: by then a daemon has seen that its certificate's files are new ones."""


def call(
    host: str,
    port: int,
    frame: dict[str, Any],
    timeout_s: float = 60.0,
    tls: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """Send one frame and return its reply. Raises NoDaemonError."""
    with contextlib.closing(stream(host, port, frame, timeout_s, tls)) as replies:
        for reply in replies:
            return reply
    raise NoDaemonError(f"{host}:{port} hung up without a reply")


def stream(
    host: str,
    port: int,
    frame: dict[str, Any],
    timeout_s: float | None,
    tls: ssl.SSLContext | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Send one frame and yield its reply lines until the other side hangs up. Raises NoDaemonError.

    `tls`: what the daemon is trusted by; None: the connection is not encrypted.
    """
    try:
        with _connected(host, port, tls) as connection:
            connection.settimeout(timeout_s)
            _send(connection, orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE))
            with connection.makefile("rb") as lines:
                for line in lines:
                    yield _reply(line, host, port)
    except OSError as error:
        raise NoDaemonError(f"no daemon answers on {host}:{port}: {_why(error)}") from error


def _send(connection: socket.socket, frame: bytes) -> None:
    # A daemon may refuse, and hang up, before it has read anything: then its words are there to be read.
    with contextlib.suppress(ConnectionError):
        connection.sendall(frame)
    if not isinstance(connection, ssl.SSLSocket):  # in TLS there is no end of one side only
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)


def _connected(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    try:
        return _connect(host, port, tls)
    except ssl.SSLCertVerificationError:
        time.sleep(AGAIN_S)
        return _connect(host, port, tls)


def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    connection = socket.create_connection((host, port), CONNECT_S)
    if tls is None:
        return connection
    try:
        return tls.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    reason = getattr(error, "reason", None) or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "it does not speak TLS, which server.tls_cert (or --tls-ca) asks for"
    if "ALERT" in reason:
        alert = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return f"it does not let us in: {alert} (--tls-cert, --tls-key)"
    return error.strerror or str(error)


def _reply(line: bytes, host: str, port: int) -> dict[str, Any]:
    try:
        reply = orjson.loads(line)
    except ValueError as error:
        raise NoDaemonError(f"what listens on {host}:{port} is not broadcastd") from error
    if not isinstance(reply, dict) or "ok" not in reply:
        raise NoDaemonError(f"what listens on {host}:{port} is not broadcastd")
    return reply
