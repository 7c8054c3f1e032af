"""`broadcastd watch`: a live bar until the job has ended."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from broadcastd.cli.target import Target, find_target, print_json, refused, target_options
from broadcastd.errors import NoDaemonError

RECONNECT_FOR_S = 60.0
"""A restart of the daemon takes seconds; the watcher waits for it."""


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--every", "every_s", type=float, default=0.5, show_default=True, help="Seconds between looks.")
@target_options
def watch(
    config: Path | None, host: str | None, port: int | None, as_json: bool, job_id: str, every_s: float
) -> None:
    """Follow JOB until it has ended."""
    lines = _lines(find_target(config, host, port), job_id, every_s)
    if as_json:
        for line in lines:
            print_json(line)
        return
    from broadcastd.cli.progress import follow

    follow(lines)


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
                    if line["state"] == "done":
                        return
        except NoDaemonError:
            if time.monotonic() > gives_up_at:
                raise
        if time.monotonic() > gives_up_at:
            raise NoDaemonError("the daemon has gone away; the job is safe in its ledger")
        time.sleep(1)
