"""`broadcastd pause`, `resume`, `cancel` and `retry`: each answers with the job as it is then."""

import sys
from typing import Any

import click

from broadcastd.cli.agree import agree, asks, yes_option
from broadcastd.cli.jobs import job_argument, print_job
from broadcastd.cli.main import Exit
from broadcastd.cli.moment import not_after_option
from broadcastd.cli.target import Target, complain, target_options
from broadcastd.model import RETRIABLE


@click.command()
@job_argument
@target_options
def pause(target: Target, as_json: bool, job_id: str) -> None:
    """Ask nobody more of JOB until `resume`; a restart does not end it."""
    print_job(target.call({"op": "pause", "job": job_id}), as_json)


@click.command()
@job_argument
@target_options
def resume(target: Target, as_json: bool, job_id: str) -> None:
    """Let a held or paused JOB go on."""
    print_job(target.call({"op": "resume", "job": job_id}), as_json)


@click.command()
@job_argument
@yes_option
@target_options
def cancel(target: Target, as_json: bool, job_id: str, yes: bool) -> None:
    """End JOB: nobody more is asked, and who is left becomes `skipped`.

    On a terminal it asks first. The state is `cancelling` while calls are under way; `broadcastd watch JOB`
    waits for the end.
    """
    if asks(yes):
        books = target.call({"op": "job", "job": job_id})["books"]
        left = f"{books['remaining']:,} of {books['recipients']:,} recipients have no outcome yet"
        planned = "" if books["planned"] else ", and not all are listed yet"
        agree(f"{job_id}: {left}{planned}; they would be skipped. Cancel it?")
    print_job(target.call({"op": "cancel", "job": job_id}), as_json)


@click.command()
@job_argument
@click.option(
    "--only",
    multiple=True,
    required=True,
    type=click.Choice([outcome.value for outcome in RETRIABLE]),
    help="Whose outcome it is now; may be repeated.",
)
@not_after_option
@target_options
def retry(target: Target, as_json: bool, job_id: str, only: tuple[str, ...], not_after: str | None) -> None:
    """Ask some recipients of an ended JOB again.

    Who ended as `unknown` may have got the message already: with `--only unknown` it may arrive twice.
    """
    before = target.call({"op": "job", "job": job_id}).get("round") or {"no": 0}
    wanted = before["no"] + 1  # named, so that two operators at once start one round, not two
    asked = {"op": "retry", "job": job_id, "only": list(dict.fromkeys(only)), "round": wanted}
    reply = target.call({**asked, "not_after": not_after})
    print_job(reply, as_json)
    _same_round(reply["round"], wanted, only)


def _same_round(now: dict[str, Any], wanted: int, only: tuple[str, ...]) -> None:
    if now["no"] != wanted or set(now["only"] or ()) != set(only):
        of = ", ".join(now["only"] or ("everybody",))
        complain(f"somebody else has started round {now['no']} meanwhile, for {of}; yours was not started")
        sys.exit(Exit.FAILED)
