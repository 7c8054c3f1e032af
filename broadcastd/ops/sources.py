"""What the figures are read from, and who is asked whether all is well."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from broadcastd.callback.building import Callbacks
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.loop_lag import LoopLag
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.quotas import AccountQuotas
from broadcastd.metrics import Commits, FrameCounts
from broadcastd.ports import Ledger

Pool = Callable[[], tuple[int, int]]
"""How many connections are in use, and how many may be."""


@dataclass(slots=True)
class Requests:
    """Of this port: how many there were."""

    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    """By route and status."""

    def answered(self, route: str, status: int) -> None:
        """One more."""
        key = route, status
        self.counts[key] = self.counts.get(key, 0) + 1


@dataclass(frozen=True, slots=True)
class Sources:
    """The daemon's parts, to be looked at only."""

    accounts: Mapping[str, Account]
    jobs: OpenJobs
    dispatcher: Dispatcher
    intake: Intake
    ledger: Ledger
    commits: Commits
    quotas: Mapping[str, AccountQuotas]
    """By account."""
    pools: Sequence[tuple[str, str, Pool]]
    """(account, `audience` or `api`, how to ask it)."""
    callbacks: Callbacks
    frames: FrameCounts
    loop_lag: LoopLag
    tasks: int
    clock: Clock
    started_s: float
    """Monotonic."""
    progressing: Callable[[], str]
    """What of the daemon hangs, in words; empty when all goes on."""
    requests: Requests = field(default_factory=Requests)
    listening: Callable[[], bool] = lambda: True
    """Whether frames are taken on their port."""
