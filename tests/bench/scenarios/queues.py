"""Common task queues, a task a recipient, beside the daemon."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from bed.ports import eventually, free_port

from bench.bare_side import TUNED, sides
from bench.processes import Values, told
from bench.rounds import Found, Side, in_turns
from bench.scenario import Chart, Grounds, Scenario
from bench.scenarios.sending import HTTP, daemon_sides

RECIPIENTS = 3000
ROUNDS = 3
IN_FLIGHT = 32
PEERS = {"arq": "peer_arq", "Celery": "peer_celery"}


def measure(grounds: Grounds) -> Found:
    """Those that are installed."""
    recipients = min(grounds.wanted.recipients or RECIPIENTS, RECIPIENTS)
    api = grounds.endpoint.url()
    both = sides(HTTP, api, recipients, IN_FLIGHT, "tuned") + daemon_sides(grounds, HTTP, api, recipients)
    for name, module in PEERS.items():
        if find_spec(name.lower()) is None or which("redis-server") is None:
            print(f"  {name} is left out: it or redis-server is not installed", file=sys.stderr)
            continue
        both.append(Side(HTTP, name, partial(run_queue, grounds, module, api, recipients)))
    return in_turns(both, grounds.wanted.rounds_or(ROUNDS))


def run_queue(grounds: Grounds, module: str, api: str, recipients: int) -> Values:
    """With a Redis of its own, which keeps all in memory."""
    with _redis(grounds.folder) as url:
        return told(module, api, url, recipients)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = free_port()
    quiet = ("--save", "", "--appendonly", "no", "--loglevel", "warning", "--dir", str(folder))
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", *quiet]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        ping = ["redis-cli", "-p", str(port), "ping"]
        eventually(lambda: subprocess.run(ping, check=False, capture_output=True).returncode == 0)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


SCENARIO = Scenario(
    title="Task queues",
    words="3,000 recipients over HTTP, at no latency. arq: a job a recipient, one worker, 100 at once;"
    " Celery: a task a recipient, one worker of two processes. Their Redis keeps all in memory"
    " only, and its CPU is not counted. The time is that from the first task that is handed in to"
    " the last message.",
    measure=measure,
    shown=("per_s", "cpu_us", "peak_mb", "in_flight"),
    base=TUNED,
    compared="per_s",
    chart=Chart("per_s"),
)
