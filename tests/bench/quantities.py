"""What is measured: how a column is called, and how its figures are written."""

from collections.abc import Sequence
from statistics import median

from bench.processes import Values
from bench.rounds import values_of

QUANTITIES: dict[str, tuple[str, str]] = {
    "per_s": ("messages/s", "{:,.0f}"),
    "sent_s": ("s to the last message", "{:.2f}"),
    "done_s": ("s until done", "{:.2f}"),
    "first_ms": ("ms to the first message", "{:.0f}"),
    "cpu_us": ("CPU µs a message", "{:.0f}"),
    "peak_mb": ("peak MB", "{:.0f}"),
    "rest_ms": ("CPU ms a second at rest", "{:.0f}"),
    "in_flight": ("in flight", "{:.0f}"),
    "read_s": ("s", "{:.2f}"),
    "cpu_s": ("CPU s", "{:.2f}"),
    "pull_ms": ("ms a slice", "{:.2f}"),
    "frames_per_s": ("frames/s", "{:,.0f}"),
    "frame_cpu_us": ("CPU µs a frame", "{:.0f}"),
    "p50_ms": ("p50 ms", "{:.1f}"),
    "p99_ms": ("p99 ms", "{:.1f}"),
    "most_ms": ("longest ms", "{:.1f}"),
}
"""By its name in figures.json: the column's title, and the form of its figures."""


def spread(runs: Sequence[Values], quantity: str) -> str:
    """The median and, where they differ from it, the least and the most; empty when it was not measured."""
    values, form = values_of(runs, quantity), QUANTITIES[quantity][1]
    if not values:
        return ""
    mid, least, most = (form.format(one) for one in (median(values), min(values), max(values)))
    return mid if least == most else f"{mid} ({least} to {most})"
