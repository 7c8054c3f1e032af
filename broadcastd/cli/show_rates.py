"""How the rates look on a terminal."""

from typing import Any

from rich.table import Table

from broadcastd.cli.show import plain


def rates_table(accounts: dict[str, dict[str, dict[str, Any]]]) -> Table:
    """A row a channel."""
    table = Table(box=None, pad_edge=False)
    for column in ("account", "channel"):
        table.add_column(column, no_wrap=True)
    for column in ("calls a second", "in flight", "limit", "max"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for account, channels in accounts.items():
        for channel, lane in channels.items():
            rate = "unlimited" if lane["rate_per_s"] is None else f"{lane['rate_per_s']:g}"
            table.add_row(
                plain(account), plain(channel), rate,
                f"{lane['in_flight']:,}", f"{lane['limit']:,}", f"{lane['max_in_flight']:,}",
                plain(lane["state"]),
            )  # fmt: skip
    return table
