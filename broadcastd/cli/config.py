"""`broadcastd config`: write, check and show settings."""

import os
from pathlib import Path
from typing import Any

import click

from broadcastd.cli.alert import check_alerts
from broadcastd.cli.config_text import Place, settings_text
from broadcastd.cli.target import complain, config_option, print_json
from broadcastd.errors import SettingsError


@click.group()
def config() -> None:
    """The settings."""


@config.command()
@click.argument("path", type=click.Path(path_type=Path), default="broadcastd.toml")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Keep the ledger in this folder, not beside the settings.",
)
@click.option(
    "--identity-dir",
    type=click.Path(path_type=Path),
    help="Keep the file that tells the ledger from a copy in this folder.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65533),
    help="Listen on this port; the two after it are those of [http] and [callback].",
)
@click.option("--restart", help="The command by which the monitor restarts the daemon.")
@click.option("--user", help="Started by root with `broadcastd start`, it keeps only this user's rights.")
@click.option("--pid-file", type=click.Path(path_type=Path), help="Of `broadcastd start`: where the pid is.")
@click.option(
    "--log-file", type=click.Path(path_type=Path), help="Of `broadcastd start`: where the log goes."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def init(path: Path, force: bool, as_json: bool, **place: Any) -> None:
    """Write a settings file with every key and its comment to PATH (default: broadcastd.toml)."""
    text = settings_text(Place(**place))
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        # It will hold the database's password: nobody else may read it.
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise SettingsError(f"{path} exists already; --force overwrites it") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if as_json:
        print_json({"written": str(path)})
        return
    click.echo(f"{path} written: set the audience's url and the template, then `broadcastd run -c {path}`")


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def check(config: Path | None, as_json: bool) -> None:
    """Say whether the settings can be used."""
    from broadcastd import settings_file
    from broadcastd.precautions import precautions
    from broadcastd.settings_review import cautions, untouched

    path = config or settings_file.find()
    settings = settings_file.load(path)
    check_alerts(settings.alerts)
    warnings = settings_file.exposures(path) + precautions(settings) + cautions(settings)
    left = untouched(settings)
    if as_json:
        there = str(path) if path else None
        accounts = list(settings.accounts)
        print_json({"ok": True, "path": there, "accounts": accounts, "warnings": warnings, "left": left})
        return
    for warning in warnings:
        complain(f"warning: {warning}")
    if left:
        click.echo(
            f"{path or 'the environment'}: valid, but still as `config init` wrote it: {', '.join(left)}"
        )
    else:
        click.echo(f"{path or 'the environment'}: fine; accounts: {', '.join(settings.accounts)}")


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(config: Path | None, as_json: bool) -> None:
    """Show the settings as they are in force, without secrets."""
    from broadcastd import settings_file

    values = settings_file.load(config or settings_file.find()).model_dump(mode="json")
    if as_json:
        print_json(values)
    else:
        for line in _lines(values, ""):
            click.echo(line)


def _lines(values: dict[str, Any], prefix: str) -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name} = {value!r}")
    return lines
