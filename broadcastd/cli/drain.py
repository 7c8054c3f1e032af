"""`broadcastd drain`: accept nothing new, and finish what is there."""

import sys
from typing import Any

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.target import Target, complain, print_json, refused, target_options
from broadcastd.errors import NoDaemonError


@click.command()
@click.option("--no-wait", is_flag=True, help="Begin, say how far it is, and leave.")
@click.option("--off", is_flag=True, help="Accept new jobs again.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between looks.",
)
@target_options
def drain(target: Target, as_json: bool, no_wait: bool, off: bool, every_s: float) -> None:
    """Have the daemon accept nothing new, and finish what is there.

    Follows it until nothing is left to do. Ends with 0 once it is drained, with 1 when somebody ends the
    drain meanwhile. Ctrl-C ends only the following; `drain --off` ends the drain.
    """
    if off or no_wait:
        reply = target.call({"op": "drain", "off": off or None})
        print_json(reply) if as_json else click.echo(drain_line(reply))
        return
    try:
        state = _follow(target, as_json, every_s)
    except KeyboardInterrupt:
        complain("the daemon goes on draining; `broadcastd drain --off` ends that")
        raise
    if state == "accepting":
        complain("it accepts new jobs again: somebody has ended the drain")
        sys.exit(Exit.FAILED)
    if state != "drained":
        raise NoDaemonError("the daemon hung up before it was drained; nothing is lost, ask again")


def _follow(target: Target, as_json: bool, every_s: float) -> str:
    state = shown = ""
    for line in target.stream({"op": "drain", "every_s": every_s}):
        if not line["ok"]:
            refused(line)
        state = line["state"]
        if as_json:
            print_json(line)
        elif drain_line(line) != shown:
            shown = drain_line(line)
            click.echo(shown)
        if state != "draining":
            break
    return state


def drain_line(reply: dict[str, Any]) -> str:
    """`draining: 3 jobs open (2 going, 1 waiting), 12,000 recipients left`."""
    jobs = reply["jobs"]
    word = "job" if jobs["open"] == 1 else "jobs"
    counts = f"{jobs['open']:,} {word} open ({jobs['going']:,} going, {jobs['waiting']:,} waiting)"
    return f"{reply['state']}: {counts}, {reply['remaining']:,} recipients left"
