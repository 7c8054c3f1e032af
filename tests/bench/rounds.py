"""What is compared runs in turns; of each the median and the spread are told."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.processes import Values

Runs = list[Values]
Found = dict[str, dict[str, Runs]]
"""By group (what belongs into one chart), then by side (what is compared in it): a run a round."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are compared."""

    group: str
    name: str
    measure: Callable[[], Values]


def in_turns(sides: Sequence[Side], rounds: int) -> Found:
    """Measure each side once a round, every other round in the opposite order."""
    found: Found = {}
    for side in sides:
        found.setdefault(side.group, {})[side.name] = []
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            print(f"  round {number + 1} of {rounds}: {side.group}: {side.name}", file=sys.stderr, flush=True)
            found[side.group][side.name].append(side.measure())
    return found


def joined(found: Found, more: Found) -> Found:
    """The rounds of both, of the same sides."""
    return {
        group: {side: runs + more[group][side] for side, runs in sides.items()}
        for group, sides in found.items()
    }


def values_of(runs: Sequence[Mapping[str, float]], quantity: str) -> list[float]:
    """One quantity, a value a round; empty where these runs do not have it."""
    return [run[quantity] for run in runs if quantity in run]


def middle(runs: Sequence[Mapping[str, float]], quantity: str) -> float:
    """The median of one quantity."""
    return median(values_of(runs, quantity))


def ratio(runs: Sequence[Values], beside: Sequence[Values], quantity: str) -> float:
    """The median of the ratios within a round: what disturbs a round disturbs both."""
    pairs = zip(values_of(runs, quantity), values_of(beside, quantity), strict=True)
    return median(one / other for one, other in pairs)
