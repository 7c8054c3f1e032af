"""What a selftest is run with."""

from dataclasses import dataclass

SENDS_PER_TASK = 8
"""A ceiling for what a task has in flight: the smallest write-ahead chunk, for the tightest bound."""

SMALLEST_CHUNK = 8
"""Of the bound on what a kill may leave in doubt: 2 x tasks x max(this, in flight per task)."""

LAST_ANSWERS_S = 0.1
"""What was answered so shortly before a kill may not be on disk yet."""

DISKS = ("auto", "tmpfs", "limit", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of one run. Runs with the same seed do the same faults, after the same drawn delays."""

    rounds: int
    recipients: int
    tasks: int
    on_unknown: str
    latency_ms: int
    seed: int
    disk: str = "auto"
    """How a full disk is made: one of `DISKS`."""
    keep: bool = False
    """Keep the folder also when all is well."""

    @property
    def in_flight_bound(self) -> int:
        """How many may be in doubt after a kill, beside what was answered just before."""
        return 2 * self.tasks * max(SMALLEST_CHUNK, SENDS_PER_TASK)
