"""`broadcastd config`: write, check and show settings."""

import os
from importlib import resources
from pathlib import Path
from typing import Any

import click

from broadcastd.cli.target import complain, config_option, print_json
from broadcastd.errors import SettingsError
from broadcastd.keywords import fitted, hidden
from broadcastd.settings import AccountSettings, KeywordSettings
from broadcastd.texts import fill, has_placeholder


@click.group()
def config() -> None:
    """The settings."""


@config.command()
@click.argument("path", type=click.Path(path_type=Path), default="broadcastd.toml")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def init(path: Path, force: bool, as_json: bool) -> None:
    """Write a settings file with every key and its comment to PATH (default: broadcastd.toml)."""
    text = resources.files("broadcastd.cli").joinpath("broadcastd.toml").read_text(encoding="utf-8")
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

    path = config or settings_file.find()
    settings = settings_file.load(path)
    warnings = settings_file.exposures(path) + precautions(settings)
    warnings += [
        f"accounts.{name}.{what}"
        for name, account in settings.accounts.items()
        for what in _warnings(account)
    ]
    if as_json:
        there = str(path) if path else None
        accounts = list(settings.accounts)
        print_json({"ok": True, "path": there, "accounts": accounts, "warnings": warnings})
        return
    for warning in warnings:
        complain(f"warning: {warning}")
    left = [
        f"accounts.{name}.{what}" for name, account in settings.accounts.items() for what in _left(account)
    ]
    if left:
        click.echo(
            f"{path or 'the environment'}: valid, but still as `config init` wrote it: {', '.join(left)}"
        )
    else:
        click.echo(f"{path or 'the environment'}: fine; accounts: {', '.join(settings.accounts)}")


def _left(account: AccountSettings) -> list[str]:
    """What nobody has filled in yet."""
    left = []
    if "@db.example.com" in account.audience.url.get_secret_value():
        left.append("audience.url")
    if account.template.template_id.startswith("REPLACE-"):
        left.append("template.template_id")
    return left


def _warnings(account: AccountSettings) -> list[str]:
    """What WeChat will change or not show in any message of these settings."""
    templates: dict[str, KeywordSettings] = {"template": account.template}
    templates |= {f"templates.{name}": one for name, one in account.templates.items()}
    subscriptions: dict[str, KeywordSettings] = {"subscribe": account.subscribe}
    subscriptions |= {f"subscriptions.{name}": one for name, one in account.subscriptions.items()}
    warnings = []
    for section, one in (templates | subscriptions).items():
        for keyword, text in one.data.items():
            fixed = "" if has_placeholder(text) else fill(text, {})
            found = fitted(keyword, fixed)[1] if fixed else []
            if section in templates:
                found.append(hidden(keyword, fixed))
            warnings += [f"{section}.data.{keyword}: {what}" for what in found if what]
    if "mass" in account.channels:
        warnings.append("channels: each mass message takes one of the 4 that a follower may get in a month")
    return warnings


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
