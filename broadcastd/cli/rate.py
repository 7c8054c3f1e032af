"""`broadcastd rate`: how fast each channel is, and how fast it may be."""

import math
from collections.abc import Callable
from typing import Any

import click

from broadcastd.cli.target import Target, print_json, target_options

Number = type[int] | type[float]
Callback = Callable[[click.Context, click.Parameter, str | None], int | float | str | None]


def number_or(word: str, kind: Number) -> Callback:
    """A number above 0, or one word."""

    def checked(
        context: click.Context, option: click.Parameter, given: str | None
    ) -> int | float | str | None:
        del context
        if given is None or given == word:
            return given
        try:
            number = kind(given)
        except ValueError:
            number = kind(0)
        if not 0 < number < math.inf:
            raise click.BadParameter(f"{given!r}; accepted: a number above 0, or {word}", param=option)
        return number

    return checked


@click.command()
@click.argument("channel", required=False)
@click.option("--account", help="Which account; needed for a change where there are several.")
@click.option(
    "--per-second", metavar="N|off", callback=number_or("off", float), help="Calls a second at most."
)
@click.option(
    "--in-flight",
    metavar="N|auto",
    callback=number_or("auto", int),
    help="Calls under way at most. auto: as many as all tasks may have; fewer while WeChat is in trouble.",
)
@target_options
def rate(target: Target, as_json: bool, **fields: Any) -> None:
    """Show the rates, or change those of CHANNEL (or of all channels) while jobs run."""
    from broadcastd.cli.show import console
    from broadcastd.cli.show_rates import rates_table

    reply = target.call({"op": "rate", **fields})
    if as_json:
        print_json(reply)
        return
    console().print(rates_table(reply["accounts"]))
    if fields["per_second"] is not None or fields["in_flight"] is not None:
        click.echo("changed until the next start of broadcastd: settings (rate_per_s, max_in_flight) stay")
