"""What was seen: deaths, rounds, jobs. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Death:
    """One end of the daemon's process."""

    how: str
    """kill, stop, or crash: it ended and nobody had asked for it."""
    round_no: int
    answered: int
    """Calls that the receiving side answered in the last 100 ms before."""
    in_doubt: int = 0
    """What the next start found in doubt."""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One fault."""

    no: int
    at_s: float
    what: str
    """What was done, and when, in plain words."""
    deaths: tuple[Death, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCount:
    """One order: the receiving side's record, and the books of its job beside it."""

    order: str
    """The idempotency key."""
    job: str | None
    """None when the ledger has no job of this key."""
    recipients: int
    """How many were to be reached."""
    received: int
    """How many different followers got it."""
    doubled: int
    """Messages beyond the first, over all followers."""
    lost: int
    """Neither received nor listed as unknown."""
    lost_some: tuple[str, ...] = ()
    """A few of the lost."""
    state: str = "missing"
    frozen: int = 0
    """Recipients according to the books."""
    in_doubt: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether the books have exactly one outcome for everybody who was to be reached."""
        return self.frozen == self.recipients == sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Counted:
    """All that the verdicts look at."""

    jobs: tuple[JobCount, ...]
    deaths: tuple[Death, ...]
    jobs_in_ledger: int
    trouble: str = ""
    """Why the run could not be finished."""

    def sum(self, name: str) -> int:
        """Over all jobs."""
        return sum(getattr(job, name) for job in self.jobs)

    def outcome(self, name: str) -> int:
        """Over the books of all jobs."""
        return sum(job.outcomes.get(name, 0) for job in self.jobs)

    def totals(self) -> dict[str, int]:
        """For the last row of the table."""
        names = ("recipients", "received", "doubled", "lost", "in_doubt")
        return {name: self.sum(name) for name in names} | {"unknown": self.outcome("unknown")}
