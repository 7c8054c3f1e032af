"""What is compared runs in turns; of each the median and the spread are told, and the ratio to the first."""

import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.measured import Measured

Side = tuple[str, Callable[[], Measured]]
"""A name, and what measures it once."""


def in_turns(sides: Sequence[Side], rounds: int) -> dict[str, list[Measured]]:
    """Measure each side once a round, every other round in the opposite order."""
    found: dict[str, list[Measured]] = {name: [] for name, _ in sides}
    for number in range(rounds):
        for name, measure in sides if number % 2 == 0 else reversed(sides):
            print(f"round {number + 1} of {rounds}: {name} …", file=sys.stderr, flush=True)
            found[name].append(measure())
    return found


def table(found: Mapping[str, Sequence[Measured]]) -> str:
    """As Markdown. Ratios are medians of the ratios within a round."""
    first = next(iter(found.values()))
    lines = [
        "| | messages/s | CPU µs a message | CPU ratio | CPU ms a second at rest | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        ratios = [one.cpu_us / beside.cpu_us for one, beside in zip(runs, first, strict=True)]
        cells = [
            _spread([one.per_s for one in runs], "{:,.0f}"),
            _spread([one.cpu_us for one in runs], "{:.0f}"),
            _spread(ratios, "{:.2f}"),
            _spread([one.rest_ms for one in runs], "{:.0f}"),
            _spread([one.peak_mb for one in runs], "{:.0f}"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], form: str) -> str:
    middle, least, most = (form.format(one) for one in (median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"
