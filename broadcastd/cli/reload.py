"""`broadcastd reload`."""

import sys
from typing import Any

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.target import Target, complain, print_json, refused, target_options


@click.command()
@target_options
def reload(target: Target, as_json: bool) -> None:
    """Have the daemon read its settings again.

    Says what has changed, and what needs a restart. Settings that cannot be used change nothing, and
    end it with exit code 4.
    """
    reply = target.ask({"op": "reload"})
    if not reply["ok"]:
        if reply.get("error") != "bad_settings":
            refused(reply)
        for line in str(reply.get("message")).splitlines():
            complain(line)
        sys.exit(Exit.BAD_SETTINGS)
    if as_json:
        print_json(reply)
        return
    for line in _lines(reply):
        click.echo(line)


def _lines(reply: dict[str, Any]) -> list[str]:
    lines = [f"changed        {key}" for key in reply["changed"]]
    lines += [f"needs restart  {key}" for key in reply["needs_restart"]]
    return lines or ["nothing has changed"]
