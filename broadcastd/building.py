"""Builds the daemon's parts from its settings. The only place that knows all of them.

What few daemons have is imported where it is built: what is imported is most of a daemon's memory.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import structlog

from broadcastd import hook_building
from broadcastd.account_building import AccountBuilder
from broadcastd.audiences.engine import open_database
from broadcastd.callback.building import Callbacks, Site
from broadcastd.callback.building import build as build_callbacks
from broadcastd.clock import Clock
from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.canary import Canary
from broadcastd.delivery.closer import Closer
from broadcastd.delivery.controls import Controls
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.forecast import Reset
from broadcastd.delivery.forecaster import Forecaster
from broadcastd.delivery.heartbeat import Heartbeat
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.loop_lag import LoopLag
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.planner import Planner
from broadcastd.delivery.quota_table import QuotaTable
from broadcastd.delivery.quota_watch import QuotaWatch, Watching
from broadcastd.delivery.quotas import AccountQuotas
from broadcastd.delivery.rates import Rates
from broadcastd.delivery.recorder import Recorder
from broadcastd.delivery.retention import Retention
from broadcastd.delivery.sender import Sender
from broadcastd.delivery.slots import SharedParts
from broadcastd.delivery.status import Status
from broadcastd.delivery.stuck import Patience, StuckJobs
from broadcastd.delivery.task import Task
from broadcastd.delivery.timekeeper import Timekeeper
from broadcastd.delivery.vitals import Vitals
from broadcastd.ledgers import kind_of
from broadcastd.ledgers.identity import Place, default_folder, this_machine
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.sql import SqlLedger
from broadcastd.life import Life
from broadcastd.notices import Notices, Unheard
from broadcastd.ops.port import HttpPort
from broadcastd.ops.sources import Sources
from broadcastd.ports import Opening
from broadcastd.settings import IDENTITY_OFF, LedgerSettings, Settings
from broadcastd.wire.desk import Desk
from broadcastd.wire.use_cases import UseCases

if TYPE_CHECKING:
    from broadcastd.alerts.alerter import Alerter
    from broadcastd.delivery.masses import Masses

log = structlog.get_logger()


class Parts:
    """All parts of one daemon. `open` builds them; `stack` closes them again."""

    def __init__(self, settings: Settings, clock: Clock, life: Life) -> None:
        self.settings = settings
        self.clock = clock
        self.life = life
        self.listening = False
        """Whether frames are taken."""

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        """Build them all. Raises BroadcastdError."""
        self.alerter = self._build_alerter()
        self.notices: Notices = self.alerter or Unheard()
        self.ledger = await self._open_ledger(stack)
        self.builder = AccountBuilder(self.settings, self.ledger, self.clock, stack)
        self.accounts = {name: self.builder.account(name) for name in self.settings.accounts}
        self.quota_sources = self.builder.quota_sources
        self.callbacks = self._build_callbacks(stack)
        await self.callbacks.restore()
        self._build_sending()
        self._build_finish_hooks(stack)
        # Before anything runs: a job that ends first would count as one from before there was a hook.
        await self.ledger.begin_telling(self.finish_hooks, self.clock.now())
        self._build_quotas()
        self._build_vitals()
        self._build_use_cases()
        self._build_http()
        stack.push_async_callback(self.canary.close)

    def _build_alerter(self) -> "Alerter | None":
        if not self.settings.alerts.urls:
            return None
        from broadcastd.alerts.alerter import Alerter  # noqa: PLC0415 - see the module's docstring

        return Alerter(self.settings.alerts, self.clock)

    def _build_sending(self) -> None:
        settings, clock = self.settings, self.clock
        ledger, accounts, notices = self.ledger, self.accounts, self.notices
        wake = asyncio.Event()
        self.jobs = OpenJobs(ledger, accounts, clock, notices)
        self.closer = Closer(ledger, self.jobs, clock)
        self.dispatcher = Dispatcher(ledger, self.jobs, clock, settings.ledger.lease_s, wake)
        self.planner = Planner(ledger, self.jobs, settings.pool, clock, wake)
        self.recorder = Recorder(ledger, clock)
        self.timekeeper = Timekeeper(ledger, self.jobs, self.dispatcher, clock)
        self.heartbeat = Heartbeat(ledger, self.jobs, clock, notices)
        self.retention = Retention(ledger, timedelta(days=settings.ledger.keep_days), clock)
        self.account_holds = AccountHolds(ledger, self.jobs, self.dispatcher, clock, notices)
        shared = SharedParts(Sender(clock), self.recorder, clock)
        self.tasks = [Task(self.dispatcher, self.account_holds, shared) for _ in range(settings.pool.tasks)]
        gathers = [name for name, account in settings.accounts.items() if "mass" in account.channels]
        self.masses = [self._build_masses(name, shared.sender) for name in gathers]

    def _build_masses(self, name: str, sender: Sender) -> "Masses":
        from broadcastd.delivery.masses import Masses  # noqa: PLC0415 - see the module's docstring

        gather_s = self.settings.accounts[name].mass.gather_s
        return Masses(
            self.accounts[name], self.ledger, self.jobs, sender, self.account_holds, self.clock,
            gather_s=gather_s,
        )  # fmt: skip

    def _build_finish_hooks(self, stack: contextlib.AsyncExitStack) -> None:
        self.finish_hooks = hook_building.build(self.settings, self.ledger, self.notices, self.clock, stack)
        for hooks in self.finish_hooks.values():
            self.jobs.at_end(hooks.ended)

    def _build_vitals(self) -> None:
        ledger, clock = self.ledger, self.clock
        self.loop_lag = LoopLag(clock)
        self.intake = Intake(ledger, self.accounts, self.jobs, self.forecasters, self.settings, clock)
        self.canary = Canary(self.heartbeat.beat, self.accounts, lambda: self.intake.not_durable, clock)
        stuck = StuckJobs(self.jobs, ledger, self.dispatcher, _patience(self.settings), clock)
        self.vitals = Vitals(self.heartbeat, self.dispatcher, stuck, self.loop_lag, self.notices, clock)

    def _build_use_cases(self) -> None:
        settings, clock = self.settings, self.clock
        ledger, accounts = self.ledger, self.accounts
        status = Status(
            self.dispatcher, self.jobs, self.intake, ledger, accounts,
            tasks=settings.pool.tasks, owner=ledger.opening.owner, clock=clock,
            vitals=self.vitals, callback=self.callbacks.view,
        )  # fmt: skip
        controls = Controls(ledger, self.jobs, self.dispatcher, self.closer, self.account_holds, clock)
        rates = Rates(accounts, settings.pool.tasks * settings.pool.sends_per_task)
        use = UseCases(
            self.intake, ledger, self.jobs, controls, rates, QuotaTable(self.quota_watches),
            status, self.canary, clock, self.life, self.notices,
        )  # fmt: skip
        self.desk = Desk(use, settings.server)

    def _build_quotas(self) -> None:
        ledger, jobs, clock = self.ledger, self.jobs, self.clock
        self.forecasters: dict[str, Forecaster] = {}
        self.quota_watches: dict[str, QuotaWatch] = {}
        watching = Watching(ledger, jobs, self.recorder, clock, self.notices)
        for name, account in self.accounts.items():
            quota = self.settings.accounts[name].quota
            reset = Reset(quota.resets_at, ZoneInfo(quota.timezone))
            quotas = AccountQuotas(account, self.quota_sources[name], clock)
            self.forecasters[name] = Forecaster(quotas, quota, reset, watching)
            self.quota_watches[name] = QuotaWatch(quotas, quota, reset, watching)

    def _build_http(self) -> None:
        sources = Sources(
            accounts=self.accounts,
            jobs=self.jobs,
            dispatcher=self.dispatcher,
            intake=self.intake,
            ledger=self.ledger,
            commits=self.ledger.commits,
            quotas={name: watch.quotas for name, watch in self.quota_watches.items()},
            pools=self.builder.pools,
            callbacks=self.callbacks,
            frames=self.desk.frames,
            loop_lag=self.loop_lag,
            tasks=self.settings.pool.tasks,
            clock=self.clock,
            started_s=self.clock.monotonic_s(),
            progressing=self.vitals.progressing,
            listening=lambda: self.listening,
        )
        self.http = HttpPort(self.settings.http, sources, self.desk)

    @staticmethod
    def _log_opening(opening: Opening, path: str) -> None:
        away_s = None if opening.away is None else round(opening.away.total_seconds(), 1)
        log.info(
            "ledger_opened",
            path=path,
            slices_taken_back=opening.reopened,
            in_doubt=opening.in_doubt,
            away_s=away_s,
        )
        if opening.copied:
            log.critical("ledger_copied", why=opening.copied)

    async def _open_ledger(self, stack: contextlib.AsyncExitStack) -> SqlLedger:
        settings = self.settings.ledger
        url = settings.url.get_secret_value()
        kind = kind_of(url)
        guard = _guard(settings, kind.place(url))
        ledger = await stack.enter_async_context(kind.build(url, self.clock, guard))
        self._log_opening(ledger.opening, kind.place(url))
        return ledger

    def _build_callbacks(self, stack: contextlib.AsyncExitStack) -> Callbacks:
        sites = {}
        for name, settings in self.settings.accounts.items():
            opt_outs = self.accounts[name].opt_outs
            if opt_outs is not None:
                database = open_database(settings.audience, writable=True)
                stack.push_async_callback(database.close)
                sites[name] = Site(settings, database, opt_outs)
        return build_callbacks(sites, self.ledger, self.clock, stack)

    # -- running ---------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Go on with what the ledger holds."""
        await self.jobs.restore()
        self.account_holds.restore()

    async def stop_sending(self) -> None:
        """Lease nothing more, and return when nothing is under way."""
        self.dispatcher.drain()
        for task in self.tasks:
            task.stop()
        for masses in self.masses:
            masses.stop()
        await self.dispatcher.all_idle()
        for masses in self.masses:
            await masses.idle()

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Every background coroutine, by name."""
        return {
            "ledger": self.ledger.watch(),
            "recorder": self.recorder.run(),
            "dispatcher": self.dispatcher.run(),
            "leases": self.dispatcher.keep_leases(),
            "planner": self.planner.run(),
            "closer": self.closer.run(),
            "timekeeper": self.timekeeper.run(),
            "heartbeat": self.heartbeat.run(),
            "stuck jobs": self.vitals.watch_jobs(),
            "retention": self.retention.run(),
            "account holds": self.account_holds.run(),
            "loop lag": self.loop_lag.run(),
            **self.callbacks.loops(),
            **{
                f"lane {lane.channel} of {account.name}": lane.run()
                for account in self.accounts.values()
                for lane in account.lanes.values()
            },
            **{f"token of {name}": account.tokens.keep() for name, account in self.accounts.items()},
            **{f"quota of {name}": watch.run() for name, watch in self.quota_watches.items()},
            **{f"forecasts of {name}": one.run() for name, one in self.forecasters.items()},
            **{f"finish hooks of {name}": one.run() for name, one in self.finish_hooks.items()},
            **({} if self.alerter is None else {"alerts": self.alerter.run()}),
            **{f"masses of {one.account.name}": one.run() for one in self.masses},
            **{f"task {no}": task.run() for no, task in enumerate(self.tasks, 1)},
        }


def _patience(settings: Settings) -> Patience:
    accounts = settings.accounts
    return Patience(
        settings.monitor.stuck_after_s,
        settings.monitor.waiting_after_s,
        longest_s={
            name: max(
                one.audience.connect_timeout_s + one.audience.query_timeout_s,
                one.http.connect_timeout_s + one.http.answer_timeout_s,
            )
            for name, one in accounts.items()
        },
        gather_s={name: one.mass.gather_s for name, one in accounts.items()},
    )


def _guard(settings: LedgerSettings, path: str) -> Guard:
    off = settings.identity_dir == IDENTITY_OFF
    return Guard(
        place=None if off else Place(this_machine(), path),
        folder=Path(settings.identity_dir) if settings.identity_dir else default_folder(),
        longest_away=timedelta(seconds=settings.hold_after_down_s),
    )
