"""Which daemon a command talks to, and how its refusals end."""

import functools
import json
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import click
import orjson

from broadcastd import settings_file, tls
from broadcastd.cli.main import Exit
from broadcastd.errors import SettingsError
from broadcastd.log import escaped, escaped_json
from broadcastd.server_settings import LOOPBACK, ServerSettings
from broadcastd.wire import dial

F = TypeVar("F", bound=Callable[..., Any])

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon's address, and the token it wants."""

    host: str
    port: int
    token: str | None
    tls: ssl.SSLContext | None = None
    no_tls: SettingsError | None = None
    """Why TLS cannot be spoken, though the settings ask for it: whoever asks the daemon is told so."""

    def call(self, frame: dict[str, Any]) -> dict[str, Any]:
        """One frame, one reply; a refusal ends the command with its message."""
        reply = self.ask(frame)
        if not reply["ok"]:
            refused(reply)
        return reply

    def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """One frame, one reply, be it a refusal."""
        self._check()
        return dial.call(self.host, self.port, self._signed(frame), tls=self.tls)

    def stream(self, frame: dict[str, Any], timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """One frame, many replies, refusals among them; `timeout_s` for each."""
        self._check()
        return dial.stream(self.host, self.port, self._signed(frame), timeout_s, self.tls)

    def _check(self) -> None:
        if self.no_tls is not None:
            raise self.no_tls

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


def say(text: str) -> None:
    """One line on stdout, which cannot steer the terminal."""
    click.echo(escaped(text))


def target_options(command: F) -> F:
    """Where the daemon is, and --json, for commands that talk to one: they get `target` and `as_json`."""

    @functools.wraps(command)
    def with_target(config: Path | None, host: str | None, port: int | None, **rest: Any) -> Any:
        trust = Trust(*(rest.pop(name) or "" for name in ("tls_ca", "tls_cert", "tls_key")))
        return command(target=find_target(config, host, port, trust), **rest)

    wrapped = cast(F, with_target)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the daemon's reply as JSON."),
        click.option(
            "--tls-key", metavar="FILE", help="The key of --tls-cert, where it is not in that file."
        ),
        click.option(
            "--tls-cert", metavar="FILE", help="Certificate to show, for a daemon that demands one."
        ),
        click.option("--tls-ca", metavar="FILE", help="Speak TLS, and trust only what this file certifies."),
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


@dataclass(frozen=True, slots=True)
class Trust:
    """Files for TLS that a command was given; empty: what the settings have."""

    ca: str = ""
    cert: str = ""
    key: str = ""


def find_target(config: Path | None, host: str | None, port: int | None, trust: Trust = Trust()) -> Target:
    """The daemon that the settings and options name."""
    server = settings_file.load_server(config or settings_file.find())
    return Target(host or _listens(server), port or server.port, server.own_token, _tls(server, host, trust))


def find_own(config: Path | None) -> Target:
    """As `find_target`, for who has other ways to see to the daemon of these settings: it is there even when
    its certificate's files cannot be used. Asking it then raises SettingsError.
    """
    try:
        return find_target(config, None, None)
    except SettingsError as error:
        server = settings_file.load_server(config or settings_file.find())
        return Target(_listens(server), server.port, server.own_token, no_tls=error)


def _listens(server: ServerSettings) -> str:
    return "127.0.0.1" if server.host in EVERYWHERE else server.host


def _tls(server: ServerSettings, host: str | None, trust: Trust) -> ssl.SSLContext | None:
    """The daemon of these settings is known by its very certificate; one elsewhere by its name, too."""
    elsewhere = host is not None and host not in LOOPBACK
    return tls.own_context(server, trust.ca, trust.cert, trust.key, check_name=elsewhere)


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
