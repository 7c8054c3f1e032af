"""`broadcastd stop`."""

import sys
import time
from enum import Enum, auto
from pathlib import Path
from typing import Any

import click

from broadcastd.background.ending import Watched
from broadcastd.cli.background import Known, find_known, pid_file_option
from broadcastd.cli.main import Exit
from broadcastd.cli.target import complain, config_option
from broadcastd.errors import BroadcastdError, NoDaemonError, SettingsError

EVERY_S = 1.0
HUNG_S = 8.0
"""For one that does not answer, from SIGTERM to SIGKILL. With the question and the start of the next one it
fits into the half minute that the monitor gives a restart."""
BEYOND_DRAIN_S = 30.0
"""What a stop takes beside the drain: last answers, the flush, closing."""

timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    help="Seconds to wait for its end (default: server.drain_s + 30).",
)


@click.command()
@timeout_option
@click.option("--now", is_flag=True, help="Do not let end what is under way. Nothing is lost by that either.")
@pid_file_option
@config_option
def stop(config: Path | None, pid_file: Path | None, now: bool, timeout_s: float | None) -> None:
    """Stop the daemon: let end what is under way, and say how far that is.

    Ends with 0 once the daemon is gone, also when there was none. Jobs that have not ended go on at the next
    start.
    """
    stop_it(find_known(config, pid_file), timeout_s, How.NOW if now else How.DRAIN)


class How(Enum):
    """In which way it is stopped."""

    DRAIN = auto()
    """Nobody is killed."""
    KILL_HUNG = auto()
    """One that has its port open, and neither answers nor ends, is killed: it would wait in vain."""
    NOW = auto()
    """Without draining."""


def stop_it(known: Known, timeout_s: float | None, how: How) -> None:
    """Stop it, if it runs. Ends the command with 1 when it has not ended in time."""
    process = known.process()
    if process is None:
        click.echo("broadcastd does not run")
        return
    try:
        if how is How.NOW:
            killed = process.end_now()
            click.echo(f"broadcastd has {'been killed' if killed else 'stopped'}, pid {process.pid}")
        else:
            _drain(known, process, timeout_s or known.drain_s + BEYOND_DRAIN_S, how)
    except PermissionError:
        words = f"pid {process.pid} is another user's: it cannot be stopped from here"
        raise BroadcastdError(words) from None
    finally:
        process.close()


def _drain(known: Known, process: Watched, within_s: float, how: How) -> None:
    until_s = time.monotonic() + within_s
    try:
        _follow(known, until_s)
    except (NoDaemonError, SettingsError) as error:
        # It stops already, hangs, or cannot be asked: the signal is for that.
        why = str(error) if isinstance(error, SettingsError) else f"it does not answer on {known.where}"
        click.echo(f"{why}: SIGTERM to pid {process.pid}")
        if how is How.KILL_HUNG and isinstance(error.__cause__, TimeoutError):
            killed = process.drain_or_kill(HUNG_S)
            click.echo(f"broadcastd has {'been killed: it hung' if killed else 'stopped'}, pid {process.pid}")
            return
        process.drain()
    if not process.ended_within(until_s - time.monotonic()):
        complain(
            f"pid {process.pid} has not stopped within {within_s:g} s;"
            " `broadcastd stop` again waits on, `broadcastd stop --now` ends it at once"
        )
        sys.exit(Exit.FAILED)
    click.echo(f"broadcastd has stopped, pid {process.pid}")


def _follow(known: Known, until_s: float) -> None:
    """Tell it to stop, and show its progress. Raises NoDaemonError when it does not say yes."""
    shown = ""
    for line in known.target.stream({"op": "stop", "every_s": EVERY_S}, 5.0):
        if not line["ok"]:
            raise NoDaemonError(str(line.get("message")))
        text = _line(line)
        if text != shown:
            shown = text
            click.echo(text)
        if time.monotonic() > until_s:
            return


def _line(reply: dict[str, Any]) -> str:
    busy, flying, jobs = reply["tasks_busy"], reply["in_flight"], reply["jobs_open"]
    tasks = f"{busy:,} {'task' if busy == 1 else 'tasks'} busy, {flying:,} sends in flight"
    later = f"; {jobs:,} {'job goes' if jobs == 1 else 'jobs go'} on at the next start" if jobs else ""
    return f"{reply['state']}: {tasks}{later}"
