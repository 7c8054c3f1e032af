"""The regression guard: small jobs, whose ratios are compared with the last figures in the repository."""

from functools import partial

from bench.bare_side import TUNED, sides
from bench.rounds import Found, Side, in_turns
from bench.scenario import Grounds, Scenario
from bench.scenarios.frames import accept
from bench.scenarios.sending import HTTP, HTTPS, daemon_sides

RECIPIENTS = 15_000
FRAMES = 2000
ROUNDS = 2
IN_FLIGHT = 32
FRAMES_GROUP, FRAMES_SIDE = "frames", "50 connections"


def measure(grounds: Grounds) -> Found:
    """HTTP, HTTPS and frames in one round."""
    recipients, both = grounds.wanted.recipients or RECIPIENTS, []
    for group in (HTTP, HTTPS):
        api = grounds.endpoint.url(tls=group == HTTPS)
        both += sides(group, api, recipients, IN_FLIGHT, "tuned")
        both += daemon_sides(grounds, group, api, recipients)
    both.append(Side(FRAMES_GROUP, FRAMES_SIDE, partial(accept, grounds, FRAMES, "kept", mysql_ledger=False)))
    return in_turns(both, grounds.wanted.rounds_or(ROUNDS))


SCENARIO = Scenario(
    title="The guard's own figures",
    words="What `scripts/bench --quick` measures, so that it compares like with like.",
    measure=measure,
    shown=("per_s", "cpu_us", "frames_per_s", "frame_cpu_us"),
    base=TUNED,
    compared="per_s",
)
