"""Freezing an audience, beside the bare read of it."""

from functools import partial

from bench.audience import audience
from bench.daemon_side import Scene, planned_s
from bench.endpoint import HOLDING_MS
from bench.processes import Values, told
from bench.rounds import Found, Side, in_turns
from bench.scenario import Chart, Grounds, Scenario

RECIPIENTS = 1_000_000
ROUNDS = 3
BARE, DAEMON = "bare read", "broadcastd"
PLAIN, INDEXED = "no index", "index on receive_status"


def measure(grounds: Grounds) -> Found:
    """With an index on `receive_status`, and without."""
    recipients, found = grounds.wanted.recipients or RECIPIENTS, Found()
    api = grounds.endpoint.url(HOLDING_MS)
    for group in (PLAIN, INDEXED):
        there = audience(grounds.database, recipients, indexed=group == INDEXED)
        both = [
            Side(group, BARE, partial(bare, there)),
            Side(group, DAEMON, partial(planned_s, grounds, Scene(api, there, recipients))),
        ]
        found |= in_turns(both, grounds.wanted.rounds_or(ROUNDS))
    return found


def bare(url: str) -> Values:
    """asyncmy's unbuffered cursor, 5,000 rows at a time."""
    return told("reading", url)


SCENARIO = Scenario(
    title="Planning",
    words="1,000,000 recipients in MariaDB. The bare read is the same statement through asyncmy's"
    " unbuffered cursor, on an open connection. broadcastd's time is that from the job's"
    " acceptance to its last slice on disk. The endpoint holds back all calls meanwhile, so that"
    " planning does not share its CPU with sending; some hundreds of calls are begun.",
    measure=measure,
    shown=("read_s", "cpu_s"),
    base=BARE,
    compared="read_s",
    chart=Chart("read_s"),
)
