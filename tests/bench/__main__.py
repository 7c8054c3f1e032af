"""Measures what broadcastd costs. Without names: the usual scenarios; docs/performance.md is written anew."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bed.mariadb import private_mariadb

from bench import guard
from bench.endpoint import endpoint
from bench.figures import Book, Figures, read, rounded, write
from bench.machine import machine
from bench.page import figures_text, table, with_figures
from bench.scenario import Grounds, Wanted
from bench.scenarios import SCENARIOS
from bench.scenarios.latency import CASES

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FIGURES = DOCS / "performance.md", DOCS / "performance" / "figures.json"
QUICK = "quick"
DATABASE = ("--innodb-buffer-pool-size=256M",)
"""Enough for the largest audience: its disk is not what is measured."""


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    titles = "\n".join(f"  {name:<10} {one.title}" for name, one in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"scenarios:\n{titles}\n\nTMPDIR says where the ledgers are: it should be on a disk.",
    )  # fmt: skip
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help="only these, printed and not written")
    parser.add_argument("--quick", action="store_true", help="the guard, under 2 minutes: ratios beside the"
                        " last ones in the repository; exits with 1 when one is worse")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="also 300,000 and 1,000,000 recipients")
    parser.add_argument(
        "--write", action="store_true", help="write the figures of SCENARIO… into the page, too"
    )
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing; write the page from the figures"
    )
    parser.add_argument("--rounds", type=int, default=0, help="how often each side is measured")
    parser.add_argument(
        "--recipients", type=int, default=0, help="of each job, instead of the scenario's own"
    )
    parser.add_argument("--latency-ms", type=int, help="of the endpoint, in the scenario latency")
    chosen = parser.parse_args(given)
    unknown = [one for one in chosen.scenario if one not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; accepted: {', '.join(SCENARIOS)}")
    if chosen.write and is_special(chosen):
        parser.error("--write is for the scenarios' own sizes: not with --recipients or --latency-ms")
    return chosen


def is_special(chosen: argparse.Namespace) -> bool:
    """Whether other sizes are wanted than those that the page speaks of."""
    return bool(chosen.recipients or chosen.latency_ms is not None)


def main() -> None:
    """Measure what is asked for."""
    chosen = arguments(sys.argv[1:])
    # So that the servers are stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if chosen.redraw:
        write_page(read(FIGURES))
        return
    wanted = Wanted(chosen.rounds, chosen.recipients, chosen.latency_ms, chosen.full)
    with prepared(wanted) as grounds:
        if chosen.quick:
            sys.exit(quick(grounds))
        names = chosen.scenario or [name for name, one in SCENARIOS.items() if one.usual]
        written = chosen.write or not (chosen.scenario or is_special(chosen))
        for name in names:
            measure(grounds, name, written=written)


@contextmanager
def prepared(wanted: Wanted) -> Iterator[Grounds]:
    """nginx and MariaDB, in a folder that is gone at the end."""
    latencies = {case[1] for case in CASES} | {wanted.latency_ms or 0}
    with (
        tempfile.TemporaryDirectory(prefix="broadcastd-bench-") as there,
        endpoint(Path(there), latencies) as receiving,
        tempfile.TemporaryDirectory(prefix="bd-") as short,
        private_mariadb(Path(short), durable=True, options=DATABASE) as database,
    ):
        yield Grounds(Path(there), receiving, database, wanted)


def measure(grounds: Grounds, name: str, *, written: bool) -> None:
    """One scenario: its table; and, if it is to be written, its figures and the page."""
    scenario = SCENARIOS[name]
    print(f"{name}: {scenario.title}", file=sys.stderr, flush=True)
    found = rounded(scenario.measure(grounds))
    figures = Figures(datetime.now(UTC).date().isoformat(), machine(grounds.folder), found)
    print(f"\n{table(scenario, figures)}\n", flush=True)
    if written:
        book = {**read(FIGURES), name: figures}
        write(FIGURES, {one: book[one] for one in SCENARIOS if one in book})
        write_page(book)


def write_page(book: Book) -> None:
    """The page, and a chart a scenario."""
    from bench.plots import draw

    for name, figures in book.items():
        if SCENARIOS[name].chart is not None:
            draw(FIGURES.parent / f"{name}.svg", SCENARIOS[name], figures)
    page = with_figures(PAGE.read_text(encoding="utf-8"), figures_text(book, SCENARIOS))
    PAGE.write_text(page, encoding="utf-8")


def quick(grounds: Grounds) -> int:
    """The guard; its exit code."""
    book, scenario = read(FIGURES), SCENARIOS[QUICK]
    then = book[QUICK].found if QUICK in book else {}
    again = replace(grounds, wanted=replace(grounds.wanted, rounds=1))
    compared = guard.patient(
        then, partial(scenario.measure, grounds), partial(scenario.measure, again), time.monotonic
    )
    print(f"\n{guard.report(compared)}")
    if not then:
        print(f"\nnothing to compare with: {FIGURES.name} has no figures of scripts/bench {QUICK}")
    return int(any(one.is_worse for one in compared))


if __name__ == "__main__":
    main()
