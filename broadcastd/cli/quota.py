"""`broadcastd quota`: what WeChat allows a day, and its reset."""

from typing import Any

import click

from broadcastd.cli.agree import agree, asks, yes_option
from broadcastd.cli.target import Target, print_json, target_options

COLUMNS = ("account", "channel", "path", "a day", "used", "left", "rate")
NUMBERS = ("a day", "used", "left")


@click.command()
@click.argument("what", metavar="[clear]", required=False, type=click.Choice(["clear"]))
@click.option("--account", help="Only this one; `clear` takes default when none is given.")
@yes_option
@target_options
def quota(target: Target, as_json: bool, what: str | None, account: str | None, yes: bool) -> None:
    """Show what is left of the day's calls, as WeChat says; `clear` has WeChat reset them.

    What waits for an account's quota goes on after a reset. WeChat allows 10 an account and month, those in
    its console included: on a terminal `clear` asks first.
    """
    if what is not None:
        _clear(target, as_json, account or "default", yes)
        return
    reply = target.call({"op": "quota", "account": account})
    if as_json:
        print_json(reply)
    else:
        _print_table(reply["accounts"])


def _clear(target: Target, as_json: bool, account: str, yes: bool) -> None:
    if asks(yes):
        agree(f"{account}: this takes one of 10 resets a month. Reset the quotas of all its calls?")
    reply = target.call({"op": "clear_quota", "account": account})
    if as_json:
        print_json(reply)
    else:
        click.echo(f"{account}: WeChat has reset the quotas of all calls; what waited for them goes on")


def _print_table(accounts: dict[str, Any]) -> None:
    from rich.table import Table

    from broadcastd.cli.show import console, local, plain

    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    notes = []
    for name, account in accounts.items():
        for channel, row in account["channels"].items():
            figures = [_number(row[key]) for key in ("daily_limit", "used", "left")]
            table.add_row(plain(name), plain(channel), plain(row["path"]), *figures, _rate(row["rate"]))
            if row["error"]:
                since = f" (the figures are of {local(row['asked_at'])})" if row["asked_at"] else ""
                notes.append(f"{name} {channel}: WeChat gives no figures: {row['error']}{since}")
            if row["held"]:
                notes.append(f"{name} {channel} takes no calls: {row['held']}")
    out = console()
    out.print(table)
    for note in notes:
        out.print(plain(note))


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _rate(rate: dict[str, Any] | None) -> str:
    return "" if rate is None else f"{rate['calls']:,} in {rate['per_s']:,} s"
