"""`broadcastd run`: the daemon in the foreground."""

from pathlib import Path

import click

from broadcastd.cli.target import config_option


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C."""
    import structlog

    from broadcastd import log, settings_file
    from broadcastd.errors import SettingsError
    from broadcastd.precautions import precautions

    path = config or settings_file.find()
    if path is None:
        places = ", ".join(str(place) for place in settings_file.PLACES)
        raise SettingsError(
            f"no settings file: looked for {places} and ${settings_file.FILE_VARIABLE}."
            " `broadcastd config init` writes one; `broadcastd run -c FILE` names another"
        )
    settings = settings_file.load(path)
    log.configure(settings.log.level)
    for what in settings_file.exposures(path) + precautions(settings):
        structlog.get_logger().warning("precaution_missing", what=what)

    import uvloop

    from broadcastd.app import serve

    uvloop.run(serve(settings))
