"""`broadcastd send`: broadcast from the shell."""

from pathlib import Path
from typing import Any

import click

from broadcastd.cli.target import find_target, print_json, target_options


@click.command()
@click.argument("content")
@click.option("--phone", help="The {phone} of the texts.")
@click.option("--key", help="Idempotency key, such as the paid order: the same key is sent once.")
@click.option("--ref", help="The site's own id of the post; kept and shown.")
@click.option("--flag", type=int, help="Only the N-th 500 of the audience (from 0).")
@click.option("--account", help="Which account (default: default).")
@click.option(
    "--to", multiple=True, metavar="OPENID", help="A test send, to this openid only; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Count and render; send nothing.")
@target_options
def send(
    config: Path | None, host: str | None, port: int | None, as_json: bool, content: str, **fields: Any
) -> None:
    """Broadcast CONTENT to every follower."""
    from broadcastd.cli.show import console, plain

    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError("CONTENT is not UTF-8: has the terminal another encoding?") from error
    fields["content"] = content
    frame = {name: value for name, value in fields.items() if value not in (None, (), False)}
    if "to" in frame:
        frame["to"] = list(frame["to"])
    reply = find_target(config, host, port).call(frame)
    if as_json:
        print_json(reply)
        return
    out = console()
    if reply.get("dry_run"):
        out.print(
            f"would ask {reply['recipients']:,} recipients in {reply['slices']:,} slices; nothing was sent"
        )
        for channel, message in reply["messages"].items():
            out.print(f"{channel}:", plain(message))
        return
    again = " (repeated: it was accepted before)" if reply["repeat"] else ""
    out.print(f"job {reply['job']} {reply['state']}{again}; `broadcastd watch {reply['job']}` follows it")
