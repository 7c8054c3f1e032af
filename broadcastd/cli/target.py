"""Which daemon a command talks to, and how its refusals end."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from broadcastd import settings_file
from broadcastd.cli.main import Exit
from broadcastd.wire import dial

F = TypeVar("F", bound=Callable[..., Any])

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon's address, and the token it wants."""

    host: str
    port: int
    token: str | None

    def call(self, frame: dict[str, Any]) -> dict[str, Any]:
        """One frame, one reply; a refusal ends the command with its message."""
        reply = dial.call(self.host, self.port, self._signed(frame))
        if not reply["ok"]:
            refused(reply)
        return reply

    def stream(self, frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """One frame, many replies, refusals among them."""
        return dial.stream(self.host, self.port, self._signed(frame), None)

    def _signed(self, frame: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in frame.items() if value is not None}
        return given if self.token is None else {**given, "token": self.token}


def refused(reply: dict[str, Any]) -> None:
    """End the command with the daemon's words."""
    click.echo(f"broadcastd: {reply.get('error')}: {reply.get('message')}", err=True)
    sys.exit(Exit.REFUSED)


def target_options(command: F) -> F:
    """-c, --host, --port and --json, for commands that talk to a daemon."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the daemon's reply as JSON."),
        click.option("--port", type=int, help="Port of the daemon, instead of the settings'."),
        click.option("--host", help="Host of the daemon, instead of the settings'."),
        config_option,
    ):
        command = option(command)
    return command


def config_option(command: F) -> F:
    """-c, for every command."""
    return click.option(
        "-c", "--config", type=click.Path(path_type=Path), help="Settings file (default: broadcastd.toml)."
    )(command)


def find_target(config: Path | None, host: str | None, port: int | None) -> Target:
    """The daemon that the settings and options name."""
    server = settings_file.load_server(config or settings_file.find())
    token = server.token.get_secret_value() if server.token else None
    listens = "127.0.0.1" if server.host in EVERYWHERE else server.host
    return Target(host or listens, port or server.port, token or None)


def print_json(value: Any) -> None:
    """One JSON line, readable in Chinese."""
    click.echo(json.dumps(value, ensure_ascii=False))
