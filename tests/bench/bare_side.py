"""The bare loops, each in a process of its own, at the number in flight that is best for them."""

import sys
from functools import partial

from bench.processes import Values, told
from bench.rounds import Side

NAIVE, TUNED, CEILING = "aiohttp, naive", "aiohttp, tuned", "httptools, bare"
FULL_RATE_PER_S = 12_000
"""What one core sends through aiohttp at best; with the latency it says how many must be in flight."""
NAIVE_IN_FLIGHT = 100
"""As many as aiohttp's own connector lets through at once."""
SWEPT_S = 1.0
"""A try lasts about so long …"""
TRIES = 2
"""… and the better of so many counts: a number that was only disturbed must not lose."""


def run_bare(kind: str, api: str, recipients: int, in_flight: int) -> Values:
    """One run; see `bench.bare`."""
    return told("bare", kind, api, recipients, in_flight)


def sides(group: str, api: str, recipients: int, in_flight: int, *kinds: str) -> list[Side]:
    """The loops of these kinds."""
    names = {"naive": NAIVE, "tuned": TUNED, "ceiling": CEILING}
    at_once = {kind: NAIVE_IN_FLIGHT if kind == "naive" else in_flight for kind in kinds}
    return [Side(group, names[one], partial(run_bare, one, api, recipients, at_once[one])) for one in kinds]


def best_in_flight(api: str, latency_ms: int, recipients: int) -> int:
    """Of a few numbers around rate x latency the one that is best for the tuned loop, by a short try.

    The fastest; at no latency the one with the least CPU a message, which on a quiet machine is the same.
    """
    needed = FULL_RATE_PER_S * latency_ms / 1000
    around = [16, 32, 64] if not latency_ms else [round(needed * one) for one in (0.25, 0.5, 1.0, 1.5)]
    numbers = sorted({min(one, recipients) for one in around})
    enough = min(recipients, max(round(FULL_RATE_PER_S * SWEPT_S), 4 * numbers[-1]))
    decides = "sent_s" if latency_ms else "cpu_us"
    tries = [(one, run_bare("tuned", api, enough, one)) for _ in range(TRIES) for one in numbers]
    tries.sort(key=lambda one: one[1][decides])
    best = tries[0][0]
    seen = ", ".join(f"{one}: {run['per_s']:,.0f}/s ({run['cpu_us']:.0f} µs)" for one, run in tries)
    print(f"  in flight at {latency_ms} ms: {seen}; best {best}", file=sys.stderr, flush=True)
    return best
