"""`broadcastd who`: a job's recipients, as CSV or JSON lines."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import click

from broadcastd.cli.jobs import job_argument
from broadcastd.cli.target import Target, complain, json_line, refused, target_options
from broadcastd.errors import NoDaemonError
from broadcastd.log import escaped
from broadcastd.outcomes import Outcome

Person = dict[str, Any]

COLUMNS = ("id", "openid", "outcome", "channel", "errcode", "at", "round", "delivery")
NOT_YET = "none"
"""Who has no outcome yet."""
FORMULA = tuple("=+-@＝＋－＠")
"""What a spreadsheet takes for a formula, the wide ones in a Chinese one."""
LINE_WAIT_S = 60.0
"""Lines come as fast as they are read; a daemon that says nothing for so long is gone."""


@click.command()
@job_argument
@click.option(
    "--outcome",
    multiple=True,
    type=click.Choice([*(outcome.value for outcome in Outcome), NOT_YET]),
    help="Only these; `none` is who has no outcome yet. May be repeated.",
)
@click.option("--openid", help="Only this one.")
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]), help="CSV with a header (default) or JSON lines."
)
@target_options
def who(target: Target, as_json: bool, job_id: str, form: str | None, **only: Any) -> None:
    """List JOB's recipients and how each ended, one a line.

    A list that is cut ends with 3 and says so on stderr; with 0 it is whole. In CSV, text that a spreadsheet
    would take for a formula has a ' before it. --json is --format jsonl.
    """
    if as_json and form == "csv":
        raise click.UsageError("--json and --format csv exclude each other")
    outcomes = list(dict.fromkeys(only["outcome"])) or None
    frame = {"op": "who", "job": job_id, "outcome": outcomes, "openid": only["openid"]}
    people = _people(target.stream(frame, LINE_WAIT_S))
    write = write_jsonl if as_json or form == "jsonl" else write_csv
    write(people, sys.stdout.write)


def write_csv(people: Iterator[Person], write: Callable[[str], object]) -> None:
    """A header, and a row a recipient."""
    rows = csv.writer(_Writing(write), lineterminator="\n")
    first = list(islice(people, 1))  # without an answer there is no header either
    rows.writerow(COLUMNS)
    for one in chain(first, people):
        rows.writerow([cell(one.get(name)) for name in COLUMNS])


def write_jsonl(people: Iterable[Person], write: Callable[[str], object]) -> None:
    """An object a recipient."""
    for one in people:
        write(json_line({name: value for name, value in one.items() if name != "ok"}) + "\n")


def cell(value: Any) -> Any:
    """A value as a spreadsheet may have it: no control characters, no formula."""
    if not isinstance(value, str):
        return value
    text = escaped(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


class _Writing:
    """As much of a file as csv wants."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write


def _people(lines: Iterator[Person]) -> Iterator[Person]:
    """Recipients as they come; what ends the list too early ends the command."""
    count = 0
    try:
        for line in lines:
            if "listed" in line:
                _whole(line["listed"], count)
                return
            if not line["ok"]:
                if count:
                    complain(_cut(count))
                refused(line)
            count += 1
            yield line
        raise NoDaemonError("the daemon hung up before the end of the list")
    except NoDaemonError as error:
        if not count:
            raise
        raise NoDaemonError(f"{_cut(count)}: {error}") from error


def _whole(listed: int, count: int) -> None:
    if listed != count:
        raise NoDaemonError(f"{listed:,} recipients were listed, {count:,} have come")


def _cut(count: int) -> str:
    return f"the list is cut after {count:,} recipients, and not whole"
