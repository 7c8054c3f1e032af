"""The same job undisturbed, and while the port is attacked."""

from dataclasses import replace
from functools import partial

from bed.attackers import Attack

from bench.audience import audience
from bench.daemon_side import Scene, run_daemon
from bench.rounds import Found, Side, in_turns
from bench.scenario import Grounds, Scenario
from bench.scenarios.sending import HTTP

RECIPIENTS = 50_000
ROUNDS = 3
PACED = Attack(
    idle=5000, slow=200, deaf=200, garbage_per_s=50, back_after_s=5, idle_back_after_s=60, over_s=35
)
"""Over 35 s: the deaf are cut after 30 s, and then not all at once."""
ALL_LET_IN = "max_connections = 6000"
QUIET = "undisturbed"


def measure(grounds: Grounds) -> Found:
    """With limits under which all are let in, and with those of the settings."""
    recipients = grounds.wanted.recipients or RECIPIENTS
    quiet = Scene(
        grounds.endpoint.url(),
        audience(grounds.database, recipients),
        recipients,
        limits=ALL_LET_IN,
        look_at_rest=True,
    )
    all_in, limited = replace(quiet, attack=PACED), replace(quiet, attack=PACED, limits="")
    scenes = {QUIET: quiet, "attacked, all let in": all_in, "attacked, default limits": limited}
    both = [Side(HTTP, name, partial(run_daemon, grounds, scene)) for name, scene in scenes.items()]
    return in_turns(both, grounds.wanted.rounds_or(ROUNDS))


SCENARIO = Scenario(
    title="While the port is attacked",
    words="50,000 recipients over HTTP, at no latency.",
    measure=measure,
    shown=("per_s", "cpu_us", "rest_ms", "peak_mb"),
    base=QUIET,
    compared="cpu_us",
    usual=False,
)
