"""How the daemon is, for `ping` and `info`."""

import os
from collections.abc import Mapping
from typing import Any

from broadcastd import __version__
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.pace import Pace
from broadcastd.delivery.recorder import Recorder


class Status:
    """Looks at the parts; changes nothing."""

    def __init__(  # noqa: PLR0913 - one of each part it looks at
        self,
        dispatcher: Dispatcher,
        jobs: OpenJobs,
        recorder: Recorder,
        pace: Pace,
        accounts: Mapping[str, Account],
        *,
        tasks: int,
        owner: str,
        clock: Clock,
    ) -> None:
        self._dispatcher = dispatcher
        self._jobs = jobs
        self._recorder = recorder
        self._pace = pace
        self._accounts = accounts
        self._tasks = tasks
        self._owner = owner
        self._clock = clock
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
            "in_flight": self._pace.in_flight,
            "sends_per_task": self._pace.sends_per_task,
            "jobs": {"open": len(self._jobs), "held": sum(job.held for job in self._jobs)},
            "ledger": self._recorder.trouble or "ok",
            "accounts": {name: self._account(account) for name, account in self._accounts.items()},
        }

    def _account(self, account: Account) -> dict[str, Any]:
        waiting = sorted({job.waits_for for job in self._jobs if job.account is account and job.waits_for})
        return {
            "channels": list(account.channels),
            "wechat": account.gate.reason or "ok",
            "audience": "; ".join(waiting) or "ok",
        }
