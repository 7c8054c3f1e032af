"""What the commands for a daemon in the background share: their options, and where its files are."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from broadcastd import settings_file
from broadcastd.background.ending import Watched
from broadcastd.background.ownership import doubt_of_file, doubt_of_port
from broadcastd.background.pid_file import holder
from broadcastd.cli.target import Target, config_option, find_own
from broadcastd.errors import BroadcastdError, NoDaemonError, SettingsError

F = TypeVar("F", bound=Callable[..., Any])

ASK_S = 5.0
"""A daemon that does not answer within this hangs, or what listens there is none."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What the command line says instead of the section `background`."""

    config: Path | None
    pid_file: Path | None
    log_file: Path | None
    user: str | None
    group: str | None


def start_options(command: F) -> F:
    """-c and those that stand for settings of `background`; the command gets `options`."""

    @functools.wraps(command)
    def with_options(
        config: Path | None,
        pid_file: Path | None,
        log_file: Path | None,
        user: str | None,
        group: str | None,
        **rest: Any,
    ) -> Any:
        return command(options=StartOptions(config, pid_file, log_file, user, group), **rest)

    wrapped = cast(F, with_options)
    for option in (
        click.option("--group", help="… and of this group (default: the user's own)."),
        click.option("--user", help="Keep only the rights of this user; for root."),
        click.option("--log-file", type=click.Path(path_type=Path), help="Where the log goes."),
        pid_file_option,
        config_option,
    ):
        wrapped = option(wrapped)
    return wrapped


def pid_file_option(command: F) -> F:
    """--pid-file."""
    return click.option(
        "--pid-file", type=click.Path(path_type=Path), help="Where the pid is (default: background.pid_file)."
    )(command)


@dataclass(frozen=True, slots=True)
class Known:
    """A daemon as one finds it: by its port, and by its pid file."""

    target: Target
    pid_file: Path
    drain_s: float

    @property
    def where(self) -> str:
        """The address that the settings name."""
        return f"{self.target.host}:{self.target.port}"

    def answer(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        """What it answers, be it a refusal; None: nobody does, or what answers is no broadcastd, or it cannot
        be asked.
        """
        try:
            return next(iter(self.target.stream(frame, ASK_S)), None)
        except (NoDaemonError, SettingsError):
            return None

    def process(self) -> Watched | None:
        """The daemon's, whether it answers or not; None: it does not run, as far as one can see.

        Raises PermissionError, and BroadcastdError when the pid may be another process's: it is not touched.
        """
        found, by_port = holder(self.pid_file), False
        if found is None and (reply := self.answer({"op": "ping"})) is not None and reply["ok"]:
            found, by_port = int(reply["pid"]), True
        if found is None:
            if self.target.no_tls is not None:
                raise self.target.no_tls  # it may well run: nobody can tell
            return None
        try:
            process = Watched(found)
        except ProcessLookupError:
            return None
        # Only now, when the number cannot become another process's any more.
        port = self.target.port
        doubt = doubt_of_port(found, port) if by_port else doubt_of_file(found, self.pid_file)
        if doubt and not process.ended_within(0):
            process.close()
            raise BroadcastdError(
                f"pid {found} is left alone: {doubt}. Find the daemon: ss -ltnp 'sport = {port}'"
            )
        return process


def find_known(config: Path | None, pid_file: Path | None) -> Known:
    """The daemon of these settings. Raises SettingsError."""
    path = config or settings_file.find()
    background = settings_file.load_background(path)
    there = pid_file.absolute() if pid_file is not None else Path(background.pid_file)
    drain_s = settings_file.load_server(path).drain_s
    return Known(find_own(path), there, drain_s)
