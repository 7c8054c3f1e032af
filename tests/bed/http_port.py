"""A client of the HTTP port. Nothing of broadcastd in it."""

import http.client
import json
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from bed.daemon import DaemonProcess
from bed.ports import free_port

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LINE = re.compile(r"^(\w+)(\{.*\})? (\S+)$")


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        reply = json.loads(self.body)
        assert isinstance(reply, dict)
        return reply


class HttpClient:
    """Asks one port; every request on a connection of its own."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls

    def ask(
        self, method: str, path: str, body: bytes | str | dict[str, Any] | None = None, **headers: str
    ) -> Got:
        """One request. A dict goes as JSON; header names are written with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body, named = json.dumps(body), {**JSON, **named}
        if isinstance(body, str):
            body = body.encode()
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            if self._tls is None
            else http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self._tls)
        )
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Got(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Got:
        return self.ask("GET", path, **headers)

    def post(self, body: bytes | str | dict[str, Any], **headers: str) -> Got:
        return self.ask("POST", "/jobs", body, **headers)

    def metrics(self, **headers: str) -> dict[str, float]:
        """Every sample, by its name with its labels."""
        got = self.get("/metrics", **headers)
        assert got.status == 200, got
        samples = {}
        for line in got.body.decode().splitlines():
            if not line.startswith("#"):
                found = LINE.match(line)
                assert found, line
                samples[found[1] + (found[2] or "")] = float(found[3])
        return samples

    def raw(self, data: bytes) -> bytes:
        """Bytes as they are; what comes back until it hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            answer = b""
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    answer += piece
            except (ConnectionResetError, BrokenPipeError):
                pass
            return answer


def http_settings(more: str = "") -> dict[str, Any]:
    """For a `DaemonProcess`: a port, and further keys of [http]."""
    return {"http": f"port = {free_port()}\n{more}"}


def client_of(daemon: DaemonProcess, tls: ssl.SSLContext | None = None) -> HttpClient:
    """Of the port that its settings name."""
    found = re.search(r"^\[http\]\nport = (\d+)$", daemon.settings.read_text(), re.MULTILINE)
    assert found
    return HttpClient(int(found[1]), tls)
