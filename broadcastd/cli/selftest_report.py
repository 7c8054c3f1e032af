"""What `broadcastd selftest` prints: a line a round, a table of jobs, verdicts; or one object."""

from dataclasses import asdict
from typing import Any

import click
from rich.table import Table

from broadcastd import __version__
from broadcastd.cli.show import console
from broadcastd.selftest.counts import Death, Round
from broadcastd.selftest.options import Options
from broadcastd.selftest.run import Result, Watcher
from broadcastd.selftest.verdicts import allowed_in_doubt

COLUMNS = ("order", "to reach", "received", "twice", "unknown", "lost", "in doubt", "books")


class Lines(Watcher):
    """A line a step, as it happens."""

    def opened(self, result: Result) -> None:
        """What is run, and what to repeat it with."""
        options = self._options = result.options
        click.echo(
            f"broadcastd {__version__}: {options.rounds} rounds, {options.recipients:,} followers,"
            f" {options.tasks} tasks, --on-unknown {options.on_unknown}, --seed {options.seed}"
        )
        click.echo(f"full disk: {result.full_disk}")

    def struck(self, one: Round) -> None:
        """What was done, when, and what it left in doubt."""
        click.echo(f"{one.no:>3} {one.at_s:>6.1f} s  {one.what}{_left(self._options, one)}")

    def waiting(self, jobs: int) -> None:
        """The end of the faults."""
        click.echo(f"the faults are over; {jobs} jobs go on until they end")


def _left(options: Options, one: Round) -> str:
    """What each death left in doubt."""
    if not one.deaths:
        return ""
    left = " + ".join(_in_doubt(options, death) for death in one.deaths)
    return f"; in doubt: {left}"


def _in_doubt(options: Options, death: Death) -> str:
    allowed = f" of {allowed_in_doubt(options, death):,} allowed" if death.how == "kill" else ""
    return f"{death.in_doubt:,}{allowed}"


def print_result(result: Result) -> None:
    """The table and the verdicts."""
    counted = result.counted
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("order", "books") else "right", no_wrap=True)
    for job in counted.jobs:
        books = f"{job.state}, {'balanced' if job.balanced else 'NOT BALANCED'}: {_outcomes(job.outcomes)}"
        unknown = job.outcomes.get("unknown", 0)
        figures = (job.recipients, job.received, job.doubled, unknown, job.lost, job.in_doubt)
        table.add_row(job.order, *(f"{figure:,}" for figure in figures), books)
    totals = counted.totals()
    names = ("recipients", "received", "doubled", "unknown", "lost", "in_doubt")
    table.add_row("all", *(f"{totals[name]:,}" for name in names), style="bold")
    out = console()
    out.print()
    out.print(table)
    out.print()
    for verdict in result.verdicts:
        mark = "[green]ok    [/]" if verdict.ok else "[red bold]FAILED[/]"
        out.print(f"{mark}  ", end="")
        out.print(verdict.text, markup=False)
    _print_end(result)


def _print_end(result: Result) -> None:
    verdict = "passed" if result.passed else "FAILED"
    click.echo(f"{verdict} in {result.took_s:.0f} s; --seed {result.options.seed}")
    if result.folder is not None:
        click.echo(f"look at {result.folder}: daemon.log, sandbox.log, ledger/ledger.db (SQLite), site.db")


def _outcomes(outcomes: Any) -> str:
    return " + ".join(f"{n:,} {name}" for name, n in sorted(outcomes.items())) or "no outcome"


def as_values(result: Result) -> dict[str, Any]:
    """The whole for JSON."""
    counted = result.counted
    return {
        "ok": result.passed,
        "version": __version__,
        "options": asdict(result.options),
        "full_disk": result.full_disk,
        "took_s": round(result.took_s, 1),
        "rounds": [
            {
                "no": one.no,
                "at_s": round(one.at_s, 1),
                "what": one.what,
                "deaths": [
                    asdict(death) | {"allowed_in_doubt": allowed_in_doubt(result.options, death)}
                    for death in one.deaths
                ],
            }
            for one in result.rounds
        ],
        "jobs": [asdict(job) | {"balanced": job.balanced} for job in counted.jobs],
        "jobs_in_ledger": counted.jobs_in_ledger,
        "totals": counted.totals(),
        "verdicts": [asdict(verdict) for verdict in result.verdicts],
        "folder": None if result.folder is None else str(result.folder),
    }
