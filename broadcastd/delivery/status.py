"""How the daemon is, for `ping` and `info`."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from broadcastd import __version__
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.rates import lane_view
from broadcastd.delivery.vitals import Vitals
from broadcastd.ports import Ledger
from broadcastd.states import JobState


class Status:
    """Looks at the parts; changes nothing."""

    def __init__(  # noqa: PLR0913 - one of each part it looks at
        self,
        dispatcher: Dispatcher,
        jobs: OpenJobs,
        intake: Intake,
        ledger: Ledger,
        accounts: Mapping[str, Account],
        *,
        tasks: int,
        owner: str,
        clock: Clock,
        vitals: Vitals,
        callback: Callable[[str], dict[str, Any] | None] = lambda account: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._jobs = jobs
        self._intake = intake
        self._ledger = ledger
        self._accounts = accounts
        self._tasks = tasks
        self._owner = owner
        self._clock = clock
        self._callback = callback
        self.vitals = vitals
        self._started_s = clock.monotonic_s()

    def brief(self) -> dict[str, Any]:
        """Who answers."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 1),
        }

    def whole(self) -> dict[str, Any]:
        """What is going on."""
        return {
            **self.brief(),
            "owner": self._owner,
            "tasks": {"busy": self._dispatcher.tasks_busy, "all": self._tasks},
            "in_flight": self._in_flight(),
            "jobs": self._counts(),
            "ledger": self._intake.not_durable or self._ledger.copied or "ok",
            "accepts": self._accepts(),
            **self.vitals.view(),
            "accounts": {name: self._account(account) for name, account in self._accounts.items()},
        }

    def under_way(self) -> dict[str, Any]:
        """What must end before the daemon may, and how many jobs wait on disk for its next start."""
        return {
            "pid": os.getpid(),
            "tasks_busy": self._dispatcher.tasks_busy,
            "in_flight": self._in_flight(),
            "jobs_open": len(self._jobs),
        }

    def _in_flight(self) -> int:
        return sum(account.pace.in_flight for account in self._accounts.values())

    def _accepts(self) -> str:
        if self._intake.closed:
            return "draining"
        return "no" if self._intake.not_durable else "yes"

    def _counts(self) -> dict[str, int]:
        states = [job.state for job in self._jobs]
        return {
            "open": len(states),
            "held": states.count(JobState.HELD),
            "paused": states.count(JobState.PAUSED),
            "scheduled": sum(not job.due for job in self._jobs),
        }

    def drain(self) -> dict[str, Any]:
        """How far a drain is: what goes on, what waits for somebody or its time, who is still to be asked."""
        entries = list(self._jobs)
        going = sum(job.going for job in entries)
        closing = len(self._jobs.closing)
        waiting = sum(not job.going and job.no not in self._jobs.closing for job in entries)
        done = not (going or closing or self._dispatcher.tasks_busy)
        return {
            "state": ("drained" if done else "draining") if self._intake.draining else "accepting",
            "jobs": {
                "open": going + closing + waiting,
                "going": going + closing,
                "waiting": waiting,
            },
        }

    def _account(self, account: Account) -> dict[str, Any]:
        open_ones = [job for job in self._jobs if job.account is account and job.going]
        waiting = sorted({job.waits_for for job in open_ones if job.waits_for})
        return {
            "channels": {name: lane_view(lane) for name, lane in account.lanes.items()},
            "in_flight": account.pace.in_flight,
            "sends_per_task": account.pace.sends_per_task,
            "wechat": self._wechat(account),
            "audience": "; ".join(waiting) or "ok",
            "callback": self._callback(account.name),
        }

    def _wechat(self, account: Account) -> str:
        if account.is_held(self._clock.now()):
            return f"held: {account.held_for}"
        return account.gate.reason or account.tokens.trouble or "ok"
