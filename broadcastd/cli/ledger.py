"""`broadcastd ledger`: the durable record's own commands."""

from pathlib import Path

import click

from broadcastd.cli.target import config_option, print_json


@click.group()
def ledger() -> None:
    """The durable record of jobs and outcomes."""


@ledger.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def init(config: Path | None, as_json: bool) -> None:
    """Make the ledger's tables; an existing ledger is left as it is."""
    from broadcastd import settings_file
    from broadcastd.ledgers.sqlite import prepare

    path = Path(settings_file.load(config or settings_file.find()).ledger.url.removeprefix("sqlite:///"))
    existed = path.exists()
    prepare(path)
    if as_json:
        print_json({"ledger": str(path), "existed": existed})
    else:
        click.echo(f"{path}: {'a ledger already' if existed else 'made'}")
