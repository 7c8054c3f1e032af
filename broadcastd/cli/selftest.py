"""`broadcastd selftest`: faults on this machine, counted from the receiving side."""

import secrets
import signal
import sys
from typing import Any

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.target import print_json

SIGNALLED = 128
"""A shell's exit code of a command that a signal ended is this and the signal's number."""


@click.command()
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(1), help="Faults, one a round.")
@click.option(
    "--recipients",
    default=2000,
    show_default=True,
    type=click.IntRange(1),
    help="Followers; each job reaches all.",
)
@click.option(
    "--tasks", default=60, show_default=True, type=click.IntRange(1, 1000), help="Tasks of the daemon."
)
@click.option(
    "--on-unknown", type=click.Choice(["resend", "leave"]), default="resend", show_default=True,
    help="What becomes of who is in doubt: asked again, or listed as unknown.",
)  # fmt: skip
@click.option(
    "--latency-ms", default=20, show_default=True, type=click.IntRange(0), help="Time that the API takes."
)
@click.option("--seed", type=click.IntRange(0), help="Of all chance; made up, and printed, when not given.")
@click.option(
    "--disk", type=click.Choice(["auto", "tmpfs", "limit", "none"]), default="auto", show_default=True,
    help="How a full disk is made: a tmpfs (needs root), or a file-size limit.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the folder (logs, ledger) also when all is well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
def selftest(as_json: bool, seed: int | None, **options: Any) -> None:
    """Break a daemon on this machine, again and again, and count who got what.

    In a temporary folder (under $TMPDIR) it starts the sandbox, a site's database with followers, and a
    daemon. Every round broadcasts a job and strikes at a random moment: kill -9 while planning, sending or
    recovering; SIGTERM; the database away; the API hanging; the disk full. Your own daemon, settings and
    databases are not touched.

    Exit code 0 only if nobody is lost (neither received nor listed as unknown), no more messages came twice
    than were in doubt (none with --on-unknown leave), and no kill left more in doubt than
    2 x tasks x max(8, in flight per task) and what was answered in the last 100 ms. Else 1, and the folder
    stays.
    """
    from broadcastd.cli.selftest_report import Lines, as_values, print_result
    from broadcastd.selftest.options import Options
    from broadcastd.selftest.run import Watcher, run

    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: whatever was started is ended on the way out.
        signal.signal(number, lambda number, _: sys.exit(SIGNALLED + number))
    given = Options(seed=secrets.randbelow(1_000_000) if seed is None else seed, **options)
    result = run(given, Watcher() if as_json else Lines())
    if as_json:
        print_json(as_values(result))
    else:
        print_result(result)
    sys.exit(Exit.OK if result.passed else Exit.FAILED)
