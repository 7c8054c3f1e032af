"""`broadcastd start` and `broadcastd restart`."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from broadcastd import settings_file
from broadcastd.background.identity import identity_of
from broadcastd.background.launch import Background, Launch, Launched, check, check_folders, launch
from broadcastd.cli.background import Known, StartOptions, find_known, start_options
from broadcastd.cli.run import precautions_missing, settings_path
from broadcastd.cli.stop import How, stop_it, timeout_option
from broadcastd.cli.target import complain
from broadcastd.errors import CannotStartError
from broadcastd.settings import Settings
from broadcastd.wire.binding import bound


@click.command()
@start_options
def start(options: StartOptions) -> None:
    """Start the daemon in the background, and return once its port answers.

    What keeps it from that is said here. The options stand for the settings of [background].
    """
    path = settings_path(options.config, "start")
    settings = settings_file.load(path)
    _warn(path, settings)
    what = _launch_of(path, settings, options)
    check(what)
    _start(what, path, settings, options)


@click.command()
@start_options
@timeout_option
def restart(options: StartOptions, timeout_s: float | None) -> None:
    """Stop the daemon, if it runs, and start it with these options and the settings as they are now.

    Settings that cannot be used are said here, and the daemon goes on. One that hangs is killed; nothing is
    lost by that.
    """
    path = settings_path(options.config, "restart")
    settings = settings_file.load(path)
    _warn(path, settings)
    what = _launch_of(path, settings, options)
    check_folders(what)
    stop_it(find_known(path, options.pid_file), timeout_s, How.KILL_HUNG)
    _start(what, path, settings, options)


def _warn(path: Path, settings: Settings) -> None:
    for what in precautions_missing(path, settings):
        complain(f"warning: {what}")


def _start(what: Launch, path: Path, settings: Settings, options: StartOptions) -> None:
    launched = launch(replace(what, sockets=tuple(bound(settings.server))))
    known = find_known(path, options.pid_file)
    _ask(known, launched, what)
    click.echo(f"broadcastd runs, pid {launched.pid}, port {launched.port}; its log: {what.log_file}")


def _ask(known: Known, launched: Launched, what: Launch) -> None:
    """It says that it serves: see it do so."""
    known = replace(known, target=replace(known.target, port=launched.port))
    if known.answer({"op": "ping"}) is None:
        raise CannotStartError(
            f"it has started, pid {launched.pid}, and does not answer on {known.where}; see {what.log_file}"
        )


def _launch_of(path: Path, settings: Settings, options: StartOptions) -> Launch:
    background = settings.background
    return Launch(
        pid_file=(options.pid_file or Path(background.pid_file)).absolute(),
        log_file=(options.log_file or Path(background.log_file)).absolute(),
        umask=background.umask_bits,
        working_dir=Path(background.working_dir),
        serve=_server(path, settings),
        identity=identity_of(options.user or background.user, options.group or background.group),
    )


def _server(path: Path, settings: Settings) -> Callable[[Background], None]:
    """What runs in the background. What it needs is imported now: it has all rights yet."""
    import structlog
    import uvloop

    from broadcastd import log
    from broadcastd.activation import Inherited
    from broadcastd.app import Surroundings, serve

    def run(daemon: Background) -> None:
        log.configure(settings.log.level)
        if not os.access(path, os.R_OK):
            why = "broadcastd reload will not work"
            structlog.get_logger().warning("settings_not_readable", path=str(path), why=why)
        surroundings = Surroundings(
            read=lambda: settings_file.load(path),
            sockets=Inherited(frames=tuple(daemon.sockets)),
            reopen_log=daemon.log_file.reopen,
            ready=daemon.ready,
        )
        uvloop.run(serve(settings, surroundings))

    return run
