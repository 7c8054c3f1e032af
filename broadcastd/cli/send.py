"""`broadcastd send`: broadcast from the shell."""

from typing import Any

import click

from broadcastd.cli.moment import not_after_option, not_before_option
from broadcastd.cli.target import Target, complain, print_json, target_options
from broadcastd.model import OnUnknown


def keyword_values(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
    """`thing1=a text` as an object of the frame; None without any."""
    del context
    pairs = [one.partition("=") for one in given]
    for keyword, sign, _ in pairs:
        if not (keyword and sign):
            raise click.BadParameter("accepted: KEYWORD=VALUE, such as thing1=text", param=option)
    return {keyword: value for keyword, _, value in pairs} or None


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
@click.option("--template", metavar="NAME", help="One of the account's templates, by its name or its id.")
@click.option(
    "--data",
    multiple=True,
    metavar="KEYWORD=VALUE",
    callback=keyword_values,
    help="A further keyword of the template; may be repeated.",
)
@not_before_option
@not_after_option
@click.option(
    "--on-unknown",
    type=click.Choice([one.value for one in OnUnknown]),
    help="Who was asked and gave no answer: ask once more (it may arrive twice), or leave as unknown.",
)
@click.option("--dry-run", is_flag=True, help="Count and render; send nothing.")
@target_options
def send(target: Target, as_json: bool, content: str, **fields: Any) -> None:
    """Broadcast CONTENT to every follower."""
    from broadcastd.cli.show import console, plain

    fields["content"] = content
    fields["to"] = list(fields["to"]) or None
    reply = target.call({**fields, "dry_run": fields["dry_run"] or None})
    if as_json:
        print_json(reply)
        return
    out = console()
    if reply.get("dry_run"):
        out.print(
            f"would ask {reply['recipients']:,} recipients in {reply['slices']:,} slices; nothing was sent"
        )
        for channel, message in reply["messages"].items():
            out.print(plain(f"{channel}: {message}"))
        _warn(reply)
        if reply.get("quota"):
            out.print("quota:", plain(reply["quota"]["words"]))
        return
    again = " (repeated: it was accepted before)" if reply["repeat"] else ""
    waits = f", waits for {reply['waits_for']}" if reply["waits_for"] else ""
    job = reply["job"]
    out.print(plain(f"job {job} {reply['state']}{again}{waits}; `broadcastd watch {job}` follows it"))
    _warn(reply)


def _warn(reply: dict[str, Any]) -> None:
    for warning in reply.get("warnings", ()):  # a daemon of an earlier version has none
        complain(f"warning: {warning}")
