"""`broadcastd doctor`: is the whole installation well, and how is each thing mended."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.target import config_option, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broadcastd.doctor.checks import Check
    from broadcastd.doctor.examination import Told

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
WORDS = ("ok", "warn", "fail", "skipped")


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="This check, or those that begin so; repeatable.")
@click.option("--offline", is_flag=True, help="Ask no other machine: no database server, not WeChat.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def doctor(config: Path | None, only: tuple[str, ...], offline: bool, as_json: bool) -> None:
    """Look at the whole installation, and say how to mend each thing.

    A line for each check: ok, warn, fail or skipped, and what was seen; under it, what to type. It changes
    nothing and sends nothing to anybody, and needs no running daemon. docs/monitoring.md has all checks.

    Exit codes: 0 nothing fails (warnings are allowed), 1 something does.
    """
    from broadcastd import log, settings_file
    from broadcastd.doctor.examination import chosen, passed

    checks = chosen(only)
    unknown = [name for name in only if not chosen([name])]
    if unknown:
        names = ", ".join(check.name for check in chosen(()))
        raise click.BadParameter(f"no check is called {unknown[0]}; there are {names}", param_hint="--only")
    log.configure("critical")  # what happens is told here in its own words
    path = config or settings_file.find()
    told = asyncio.run(_examine(path, checks, offline, (lambda one: None) if as_json else _printer()))
    if as_json:
        print_json({"ok": passed(told), "findings": [_value(one) for one in told]})
    else:
        _print_sum(told)
    sys.exit(Exit.OK if passed(told) else Exit.FAILED)


async def _examine(
    path: Path | None, checks: "Sequence[Check]", offline: bool, tell: "Callable[[Told], None]"
) -> "list[Told]":
    from broadcastd.doctor.examination import examine
    from broadcastd.doctor.subject import Subject

    told = []
    async with Subject(path, offline=offline).open() as subject:
        async for one in examine(subject, checks):
            tell(one)
            told.append(one)
    return told


def _value(one: "Told") -> dict[str, Any]:
    finding = one.finding
    return {
        "check": one.check, "account": one.account, "verdict": finding.verdict.value, "seen": finding.seen,
        "mend": list(finding.mend),
    }  # fmt: skip


def _printer() -> "Callable[[Told], None]":
    """Prints a finding, in colours on a terminal."""
    from rich.text import Text

    from broadcastd.cli.show import console, plain

    out = console()

    def tell(one: "Told") -> None:
        verdict = one.finding.verdict.value
        name = one.check if one.account is None else f"{one.check} {one.account}"
        seen = plain(one.finding.seen)
        out.print(Text.assemble((f"{verdict:<8}", STYLES[verdict]), (f"{name:<25} ", "bold"), seen))
        for mend in one.finding.mend:
            out.print(Text.assemble(" " * 9 + "→ ", plain(mend)))

    return tell


def _print_sum(told: "list[Told]") -> None:
    counts = Counter(one.finding.verdict.value for one in told)
    click.echo(", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word]))
