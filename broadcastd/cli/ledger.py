"""`broadcastd ledger`: the durable record's own commands."""

from datetime import UTC, datetime
from pathlib import Path

import click

from broadcastd.cli.agree import agree, asks, yes_option
from broadcastd.cli.target import Target, config_option, print_json, target_options
from broadcastd.errors import NoDaemonError


@click.group()
def ledger() -> None:
    """The durable record of jobs and outcomes."""


@ledger.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def init(config: Path | None, as_json: bool) -> None:
    """Make the ledger's tables; an existing ledger is left as it is."""
    from broadcastd.ledgers import kind_of

    url = _url(config)
    place = kind_of(url).place(url)
    existed = kind_of(url).make(url)
    if as_json:
        print_json({"ledger": place, "existed": existed})
    else:
        click.echo(f"{place}: {'a ledger already' if existed else 'made'}")


@ledger.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def upgrade(config: Path | None, as_json: bool) -> None:
    """Bring the ledger of a former version to this one. The daemon must be stopped.

    A ledger in SQLite is copied first, and is upgraded at the daemon's start too.
    """
    from broadcastd.ledgers import kind_of

    url = _url(config)
    where = kind_of(url).place(url)
    done = kind_of(url).upgrade(url, datetime.now(UTC))
    backup = str(done.backup) if done.backup else None
    if as_json:
        print_json({"ledger": where, "from": done.before, "to": done.after, "backup": backup})
    elif done.before == done.after:
        click.echo(f"{where}: version {done.after} already")
    else:
        copied = f"; as it was before: {backup}" if backup else ""
        click.echo(f"{where}: upgraded, version {done.before} → {done.after}{copied}")


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def backup(file: Path, config: Path | None, as_json: bool) -> None:
    """Copy the ledger to FILE, which must be new. The daemon may go on meanwhile; SQLite only.

    Put back, it is noticed: everything is held until `broadcastd ledger adopt`.
    """
    from broadcastd.ledgers import kind_of

    url = _url(config)
    kind_of(url).back_up(url, file)
    if as_json:
        print_json({"ledger": kind_of(url).place(url), "backup": str(file)})
    else:
        click.echo(f"{kind_of(url).place(url)}: copied to {file}")


@ledger.command()
@yes_option
@target_options
def adopt(target: Target, as_json: bool, yes: bool) -> None:
    """Say that a copied or restored ledger is the one to go on with: what it holds for that goes on.

    The daemon must be running; its settings name the ledger. First make sure that no other daemon works on
    the original: else everybody left gets the message twice. On a terminal it asks first.
    """
    if asks(yes):
        agree("Is it certain that no other daemon works on the original of this ledger?")
    try:
        reply = target.call({"op": "adopt"})
    except NoDaemonError as error:
        raise NoDaemonError(f"{error}; start the daemon first (`broadcastd run`)") from error
    if as_json:
        print_json(reply)
    else:
        click.echo(f"the ledger is adopted; jobs that go on: {reply['resumed']:,}")


def _url(config: Path | None) -> str:
    from broadcastd import settings_file

    return settings_file.load(config or settings_file.find()).ledger.url.get_secret_value()
