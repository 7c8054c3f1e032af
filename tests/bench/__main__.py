"""`scripts/bench SCENARIO`: measures, and prints a table."""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bed.attackers import Attack

from bench.measured import Measured, Scene, run_bare, run_daemon
from bench.receiving import nginx
from bench.rounds import Side, in_turns, table

RECIPIENTS = 50_000
ROUNDS = 3
PACED = Attack(
    idle=5000, slow=200, deaf=200, garbage_per_s=50, back_after_s=5, idle_back_after_s=60, over_s=35
)
"""Over 35 s: the deaf are cut after 30 s, and then not all at once."""
ALL_LET_IN = "max_connections = 6000"


def attackers(api: str, recipients: int) -> list[Side]:
    """The same job undisturbed, and while the port is attacked."""
    quiet = Scene(api, recipients, limits=ALL_LET_IN)
    return [
        ("undisturbed", partial(run_daemon, quiet)),
        ("attacked, all let in", partial(run_daemon, Scene(api, recipients, PACED, ALL_LET_IN))),
        ("attacked, default limits", partial(run_daemon, Scene(api, recipients, PACED))),
    ]


def baseline(api: str, recipients: int) -> list[Side]:
    """The daemon, beside the least that can send the same calls."""
    return [
        ("bare aiohttp loop", partial(run_bare, api, recipients)),
        ("broadcastd", partial(run_daemon, Scene(api, recipients))),
    ]


SCENARIOS: dict[str, Callable[[str, int], list[Side]]] = {"attackers": attackers, "baseline": baseline}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS, help="attackers: a job while the port is attacked;"
                        " baseline: the daemon beside a bare loop over aiohttp")  # fmt: skip
    parser.add_argument("--recipients", type=int, default=RECIPIENTS, help=f"of each job ({RECIPIENTS:,})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each is measured ({ROUNDS})")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="broadcastd-bench-") as folder, nginx(Path(folder)) as api:
        sides = SCENARIOS[chosen.scenario](api, chosen.recipients)
        found: dict[str, list[Measured]] = in_turns(sides, chosen.rounds)
    print(f"{chosen.recipients:,} recipients, {chosen.rounds} rounds in turns: medians (least to most)\n")
    print(table(found))


if __name__ == "__main__":
    main()
