"""The receiving side: the sandbox as a process of its own, and what its control tells of it."""

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.life import NAMELESS, Life, broadcastd_command
from broadcastd.selftest.options import Options

STARTS_WITHIN_S = 60.0
CONTROL_S = 120.0


class ReceivingSide:
    """A running sandbox. A fifth of its followers are outside the 48 h window: they need the template."""

    def __init__(self, options: Options, folder: Path) -> None:
        outside = options.recipients // 5
        command = broadcastd_command(
            "sandbox", "--json", "--port", "0", "--allowance", "0",
            "--inside", str(options.recipients - outside), "--outside", str(outside),
            "--latency-ms", str(options.latency_ms), "--seed", str(options.seed),
            "--quota", "all=0",
        )  # fmt: skip
        self._life = Life(command, folder / "sandbox.log")
        started = self._life.event(NAMELESS, STARTS_WITHIN_S)
        if started is None or "control" not in started:
            self.close()
            raise SelftestStoppedError(f"the sandbox does not start: {self._life.last_words}")
        self.url: str = started["url"]
        self.token: str = started["token"]
        self._control = urlsplit(started["control"]).netloc

    def close(self) -> None:
        """End it."""
        if self._life.runs:
            self._life.end(signal.SIGKILL)

    def delivered(self) -> int:
        """How many messages have arrived so far."""
        found: int = self._ask("GET", "summary")["delivered"]
        return found

    def wait_delivered(self, delivered: int, timeout_s: float) -> int:
        """Wait until so many messages have arrived, or `timeout_s`; how many have."""
        found: int = self._ask("GET", "wait", {"delivered": delivered, "timeout_s": timeout_s})["delivered"]
        return found

    def answered(self, since: float, until: float) -> int:
        """How many calls were answered between these times (seconds since 1970)."""
        found: int = self._ask("GET", "answered", {"since": since, "until": until})["answered"]
        return found

    def received(self, text: str) -> dict[str, int]:
        """openid to how many messages with this text it got."""
        found: dict[str, int] = self._ask("GET", "deliveries", {"text": text})
        return found

    @contextlib.contextmanager
    def outage(self, kind: str) -> Iterator[None]:
        """Every call meets this outage."""
        self._ask("POST", "outages", body={"kind": kind})
        try:
            yield
        finally:
            self._ask("DELETE", "outages")

    def _ask(
        self, method: str, path: str, query: dict[str, Any] | None = None, body: dict[str, Any] | None = None
    ) -> Any:
        # Not urllib: it would ask a proxy that the environment names, even for 127.0.0.1.
        connection = http.client.HTTPConnection(self._control, timeout=CONTROL_S)
        with contextlib.closing(connection):
            target = f"/sandbox/{path}?{urlencode(query or {})}"
            connection.request(method, target, None if body is None else json.dumps(body))
            return json.load(connection.getresponse())
