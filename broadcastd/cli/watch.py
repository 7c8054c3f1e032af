"""`broadcastd watch`: a live bar until the job has ended."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from broadcastd.cli.jobs import job_argument
from broadcastd.cli.main import Exit
from broadcastd.cli.target import Target, print_json, refused, target_options
from broadcastd.errors import NoDaemonError
from broadcastd.states import JOB_TERMINAL, JobState

RECONNECT_FOR_S = 60.0
"""A restart of the daemon takes seconds; the watcher waits for it."""


@click.command()
@job_argument
@click.option("--every", "every_s", type=float, default=0.5, show_default=True, help="Seconds between looks.")
@target_options
def watch(target: Target, as_json: bool, job_id: str, every_s: float) -> None:
    """Follow JOB until it has ended.

    Ends with 0 when it is done, with 1 when it was cancelled or has expired.
    """
    lines = _lines(target, job_id, every_s)
    if as_json:
        last: dict[str, Any] = {}
        for last in lines:
            print_json(last)
    else:
        from broadcastd.cli.progress import follow

        last = follow(lines)
    if last["state"] != JobState.DONE:
        sys.exit(Exit.FAILED)


def _lines(target: Target, job_id: str, every_s: float) -> Iterator[dict[str, Any]]:
    """Progress lines; a daemon that restarts meanwhile is found again."""
    gives_up_at = time.monotonic() + RECONNECT_FOR_S
    while True:
        try:
            for line in target.stream({"op": "tail", "job": job_id, "every_s": every_s}):
                if not line["ok"] and line["error"] != "draining":
                    refused(line)
                if line["ok"]:
                    gives_up_at = time.monotonic() + RECONNECT_FOR_S
                    yield line
                    if line["state"] in JOB_TERMINAL:
                        return
        except NoDaemonError:
            if time.monotonic() > gives_up_at:
                raise
        if time.monotonic() > gives_up_at:
            raise NoDaemonError("the daemon has gone away; the job is safe in its ledger")
        time.sleep(1)
