"""`broadcastd report`: the closing report of a job, for whoever paid, and its check."""

import sys
from typing import IO, Any

import click
import orjson

from broadcastd.cli.main import Exit
from broadcastd.cli.target import Target, print_json, target_options
from broadcastd.wire.frames import repeated_name


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option(
    "--verify",
    "file",
    type=click.File("rb"),
    help="Check a report that --json printed (-: standard input), instead of making one.",
)
@target_options
def report(target: Target, as_json: bool, job_id: str | None, file: IO[bytes] | None) -> None:
    """Print JOB's report, a proof for the payer, or check one.

    `report JOB --json > FILE` keeps it, `report --verify FILE` asks the daemon whether that is its report and
    unchanged: 0 when it is, 1 when it is not.
    """
    if (job_id is None) == (file is None):
        raise click.UsageError("give either JOB or --verify FILE")
    if file is not None:
        _verify(target, as_json, file)
        return
    reply = target.call({"op": "report", "job": job_id})
    if as_json:
        print_json(reply)
        return
    from broadcastd.cli.show import console
    from broadcastd.cli.show_report import report_text

    console().print(report_text(reply["report"]))


def _verify(target: Target, as_json: bool, file: IO[bytes]) -> None:
    from broadcastd.cli.show import console
    from broadcastd.cli.show_report import report_text

    shown = read_report(file.read())
    reply = target.call({"op": "verify", "report": shown})
    if as_json:
        print_json(reply)
    elif reply["genuine"]:
        click.echo(f"genuine: the report of job {reply['job']}, as this daemon made it")
        console().print(report_text(shown))
    else:
        click.echo("NOT genuine: it was changed, or another daemon made it")
    if not reply["genuine"]:
        sys.exit(Exit.FAILED)


def read_report(text: bytes) -> dict[str, Any]:
    """The report in what `report --json` printed, or in itself. Raises click's UsageError."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"this is no report: {error}") from error
    twice = repeated_name(text)
    if twice is not None:
        raise click.UsageError(f"this is no report: the name {twice!r} stands twice in one object")
    found = given.get("report", given) if isinstance(given, dict) else None
    if not isinstance(found, dict) or "hmac" not in found:
        raise click.UsageError("this is no report: `broadcastd report JOB --json` prints one")
    return found
