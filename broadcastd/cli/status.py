"""`broadcastd status`."""

import sys
from pathlib import Path
from typing import Any

import click

from broadcastd.background.pid_file import holder
from broadcastd.cli.background import Known, find_known, pid_file_option
from broadcastd.cli.target import config_option, print_json

# LSB's exit codes of a status; 4 is also that of settings that cannot be used: nothing can be told then.
RUNNING, DEAD, STOPPED, UNKNOWN = 0, 1, 3, 4
CODES = {"running": RUNNING, "dead": DEAD, "stopped": STOPPED, "unknown": UNKNOWN}


@click.command()
@pid_file_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def status(config: Path | None, pid_file: Path | None, as_json: bool) -> None:
    """Say whether the daemon runs, and how it is.

    Exit codes, those of LSB: 0 it runs; 1 it has died, and its pid file is there; 3 it does not run; 4 it
    runs and does not answer, or nobody can tell.
    """
    found = _status(find_known(config, pid_file))
    print_json(found) if as_json else click.echo(_in_words(found))
    sys.exit(CODES[found["state"]])


def _status(known: Known) -> dict[str, Any]:
    where = {"host": known.target.host, "port": known.target.port, "pid_file": str(known.pid_file)}
    reply = known.answer({"op": "info"})
    pid = holder(known.pid_file)
    if reply is not None and reply["ok"]:
        return {
            "state": "running", "pid": reply["pid"], "uptime_s": reply["uptime_s"],
            "version": reply["version"], **where, "jobs": reply["jobs"], "accepts": reply["accepts"],
        }  # fmt: skip
    if reply is not None:
        return {"state": "unknown", "pid": pid, **where, "why": f"it refuses: {reply.get('message')}"}
    asked = known.target.no_tls
    if asked is not None and pid is None:
        raise asked  # it may well run: nobody can tell
    if pid is not None:
        why = f"it cannot be asked: {asked}" if asked else "it does not answer: it starts, stops or hangs"
        return {"state": "unknown", "pid": pid, **where, "why": why}
    if known.pid_file.exists():
        return {"state": "dead", "pid": None, **where}
    return {"state": "stopped", "pid": None, **where}


def _in_words(found: dict[str, Any]) -> str:
    where = f"{found['host']}:{found['port']}"
    match found["state"]:
        case "running":
            jobs = found["jobs"]
            others = "".join(f", {n} {name}" for name, n in jobs.items() if name != "open" and n)
            accepts = "" if found["accepts"] == "yes" else f"; accepts: {found['accepts']}"
            return (
                f"broadcastd {found['version']} runs, pid {found['pid']}, on {where},"
                f" up {_span(found['uptime_s'])}; jobs: {jobs['open']} open{others}{accepts}"
            )
        case "unknown":
            who = "broadcastd" if found["pid"] is None else f"broadcastd, pid {found['pid']},"
            return f"{who} runs on {where}, but {found['why']}"
        case "dead":
            return f"broadcastd has died: {found['pid_file']} is there, and nobody holds it"
    return f"broadcastd does not run ({where}, {found['pid_file']})"


def _span(span_s: float) -> str:
    """`3 d 4 h`, `5 min 2 s`: the two largest units."""
    left = int(span_s)
    parts: list[str] = []
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size_s)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
