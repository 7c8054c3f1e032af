"""One slice's query, near the front, in the middle and at the end of a large audience."""

from bench.audience import audience
from bench.processes import told
from bench.pulling import PLACES
from bench.rounds import Found
from bench.scenario import Chart, Grounds, Scenario
from bench.scenarios.planning import INDEXED, PLAIN

RECIPIENTS = 1_000_000
ROUNDS = 3


def measure(grounds: Grounds) -> Found:
    """All places in one process, a round after the other."""
    recipients, found = grounds.wanted.recipients or RECIPIENTS, Found()
    for group in (PLAIN, INDEXED):
        there = audience(grounds.database, recipients, indexed=group == INDEXED)
        found[group] = {place: [] for place in PLACES}
        for _ in range(grounds.wanted.rounds_or(ROUNDS)):
            for place, took_ms in told("pulling", there, recipients).items():
                found[group][place].append({"pull_ms": took_ms})
    return found


SCENARIO = Scenario(
    title="A slice's query, by depth",
    words="The query for one slice of 500 out of 1,000,000 recipients in MariaDB, as a task makes it:"
    " the median of 200 slices next to each other.",
    measure=measure,
    shown=("pull_ms",),
    base="front",
    compared="pull_ms",
    chart=Chart("pull_ms"),
)
