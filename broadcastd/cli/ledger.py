"""`broadcastd ledger`: the durable record's own commands."""

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
    from broadcastd import settings_file
    from broadcastd.ledgers import kind_of

    url = settings_file.load(config or settings_file.find()).ledger.url.get_secret_value()
    kind = kind_of(url)
    place = kind.place(url)
    existed = kind.make(url)
    if as_json:
        print_json({"ledger": place, "existed": existed})
    else:
        click.echo(f"{place}: {'a ledger already' if existed else 'made'}")


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
