"""The same job, larger and larger: what does not grow with it."""

from functools import partial

from bench.audience import audience
from bench.daemon_side import Scene, run_daemon
from bench.processes import Values, told
from bench.rounds import Found, Side, in_turns
from bench.scenario import Chart, Grounds, Scenario, daemon_name, transports

ROUNDS = 3
SIZES = (1500, 10_000, 30_000, 100_000)
LARGE = (300_000, 1_000_000)
"""Only with `--full`."""
NO_JOB, IMPORTS = "no job", "imports alone"


def measure(grounds: Grounds) -> Found:
    """All sizes in turns."""
    wanted = grounds.wanted
    sizes = (wanted.recipients,) if wanted.recipients else SIZES + (LARGE if wanted.full else ())
    both = [Side(NO_JOB, IMPORTS, imports)]
    for size in sizes:
        there = audience(grounds.database, size)
        for one in transports():
            scene = Scene(grounds.endpoint.url(), there, size, one)
            both.append(Side(f"{size:,}", daemon_name(one), partial(run_daemon, grounds, scene)))
    return in_turns(both, wanted.rounds_or(ROUNDS))


def imports() -> Values:
    """A process that imports what a daemon does, and nothing else."""
    return told("imports")


SCENARIO = Scenario(
    title="What grows with the audience",
    words="One job of each size, each by a new daemon, over HTTP, at no latency. `imports alone` is a"
    " process that imports what a daemon with this ledger and this audience does. 300,000 and"
    " 1,000,000 are measured with `--full` only.",
    measure=measure,
    shown=("peak_mb", "cpu_us", "first_ms", "per_s", "sent_s"),
    chart=Chart("peak_mb", "lines"),
)
