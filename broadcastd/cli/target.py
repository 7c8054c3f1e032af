"""Which daemon a command talks to, and how its refusals end."""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import click
import orjson

from broadcastd import settings_file
from broadcastd.cli.main import Exit
from broadcastd.log import escaped, escaped_json
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
        reply = self.ask(frame)
        if not reply["ok"]:
            refused(reply)
        return reply

    def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """One frame, one reply, be it a refusal."""
        return dial.call(self.host, self.port, self._signed(frame))

    def stream(self, frame: dict[str, Any], timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """One frame, many replies, refusals among them; `timeout_s` for each."""
        return dial.stream(self.host, self.port, self._signed(frame), timeout_s)

    def _signed(self, frame: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in frame.items() if value is not None}
        try:
            orjson.dumps(given)
        except orjson.JSONEncodeError as error:
            raise click.UsageError(f"{error}. Has the terminal another encoding than UTF-8?") from error
        return given if self.token is None else {**given, "token": self.token}


def refused(reply: dict[str, Any]) -> NoReturn:
    """End the command with the daemon's words."""
    complain(f"{reply.get('error')}: {reply.get('message')}")
    sys.exit(Exit.REFUSED)


def complain(text: str) -> None:
    """One line on stderr, which cannot steer the terminal."""
    click.echo(f"broadcastd: {escaped(text)}", err=True)


def target_options(command: F) -> F:
    """-c, --host, --port and --json, for commands that talk to a daemon: they get `target` and `as_json`."""

    @functools.wraps(command)
    def with_target(config: Path | None, host: str | None, port: int | None, **rest: Any) -> Any:
        return command(target=find_target(config, host, port), **rest)

    wrapped = cast(F, with_target)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the daemon's reply as JSON."),
        click.option("--port", type=int, help="Port of the daemon, instead of the settings'."),
        click.option("--host", help="Host of the daemon, instead of the settings'."),
        config_option,
    ):
        wrapped = option(wrapped)
    return wrapped


def config_option(command: F) -> F:
    """-c, for every command."""
    return click.option(
        "-c", "--config", type=click.Path(path_type=Path), help="Settings file (default: broadcastd.toml)."
    )(command)


def find_target(config: Path | None, host: str | None, port: int | None) -> Target:
    """The daemon that the settings and options name."""
    server = settings_file.load_server(config or settings_file.find())
    listens = "127.0.0.1" if server.host in EVERYWHERE else server.host
    return Target(host or listens, port or server.port, server.own_token)


def print_json(value: Any) -> None:
    """One JSON line, readable in Chinese where the terminal can show it."""
    click.echo(json_line(value))


def json_line(value: Any) -> str:
    """JSON without a character that steers a terminal, or that stdout cannot write."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(value)
    return escaped_json(line)
