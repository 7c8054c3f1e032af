"""`broadcastd run`: the daemon in the foreground."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broadcastd.cli.target import config_option

if TYPE_CHECKING:
    from broadcastd.settings import Settings


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C.

    SIGHUP has it read its settings again. It tells systemd how it is, and takes its sockets from it.
    """
    import structlog

    from broadcastd import log, settings_file
    from broadcastd.activation import inherited
    from broadcastd.background.core_files import forbid_core_files
    from broadcastd.notify import Notifier

    path = settings_path(config, "run")
    settings = settings_file.load(path)
    log.configure(settings.log.level)
    for what in precautions_missing(path, settings):
        structlog.get_logger().warning("precaution_missing", what=what)
    forbid_core_files()
    notifier, sockets = Notifier.taken_from(os.environ), inherited(os.environ)

    import uvloop

    from broadcastd.app import Surroundings, serve

    surroundings = Surroundings(
        read=lambda: settings_file.load(path),
        sockets=sockets,
        notifier=notifier,
        hang_up_stops=sys.stderr.isatty(),
    )
    uvloop.run(serve(settings, surroundings))


def precautions_missing(path: Path, settings: "Settings") -> list[str]:
    """What works, and should not be left as it is. Raises SettingsError for TLS that cannot be used."""
    from broadcastd import settings_file
    from broadcastd.precautions import precautions

    return settings_file.exposures(path) + precautions(settings)


def settings_path(config: Path | None, command: str) -> Path:
    """The settings file, absolute: the daemon reads it again. Raises SettingsError when there is none."""
    from broadcastd import settings_file
    from broadcastd.errors import SettingsError

    path = config or settings_file.find()
    if path is None:
        places = ", ".join(str(place) for place in settings_file.PLACES)
        raise SettingsError(
            f"no settings file: looked for {places} and ${settings_file.FILE_VARIABLE}."
            f" `broadcastd config init` writes one; `broadcastd {command} -c FILE` names another"
        )
    return path.absolute()
