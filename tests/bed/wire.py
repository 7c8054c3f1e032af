"""A raw client: bytes out, reply lines in. Nothing of broadcastd in it."""

import json
import socket
from types import TracebackType
from typing import Any, Self


class RawClient:
    """One connection, used as netcat or a PHP script would."""

    def __init__(self, port: int, timeout_s: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._lines = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self.socket.close()

    def send(self, data: bytes | str | dict[str, Any]) -> None:
        """Bytes and text as they are; a dict as one line."""
        if isinstance(data, dict):
            data = json.dumps(data) + "\n"
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def end(self) -> None:
        """Half-close, as `nc -N` does."""
        self.socket.shutdown(socket.SHUT_WR)

    def reply(self) -> dict[str, Any]:
        """The next reply line. Fails when the other side hung up."""
        line = self._lines.readline()
        assert line.endswith(b"\n"), f"hung up: {line!r}"
        reply = json.loads(line)
        assert isinstance(reply, dict)
        return reply

    def rest(self) -> bytes:
        """Whatever else comes until the other side hangs up."""
        return self._lines.read()

    def hung_up(self) -> bool:
        """Whether the other side closes the connection without another byte."""
        try:
            return self._lines.read(1) == b""
        except ConnectionResetError:
            return True

    def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """One frame, one reply."""
        self.send(frame)
        return self.reply()
