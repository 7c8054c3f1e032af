"""The sandbox as a process of its own, and its control."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bed.commands import first_line


class SandboxProcess:
    """`started`: its start line."""

    def __init__(self, started: dict[str, Any]) -> None:
        self.started = started
        self.url: str = started["url"]

    def control(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, or with a body change something."""
        request = urllib.request.Request(
            f"{self.started['control']}/sandbox/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def answers(self, endpoint: str) -> dict[str, int]:
        """errcode to how many calls of an endpoint got it."""
        found: dict[str, int] = self.control("summary")["by_endpoint"].get(endpoint, {})
        return found


@contextmanager
def sandbox_process(*options: str) -> Iterator[SandboxProcess]:
    """A started sandbox with these options of its command."""
    with first_line("sandbox", "--json", "--port", "0", *options) as line:
        yield SandboxProcess(json.loads(line))
