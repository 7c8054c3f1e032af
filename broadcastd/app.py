"""Builds the daemon from its settings, starts it, and drains it. The only place that knows all parts."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from broadcastd import __version__, hook_building
from broadcastd.alerts.alerter import Alerter
from broadcastd.audiences.engine import open_database
from broadcastd.audiences.sql import SqlAudience
from broadcastd.callback.building import Callbacks, Site, opt_outs_of
from broadcastd.callback.building import build as build_callbacks
from broadcastd.channels import CHANNELS
from broadcastd.channels.quota import WechatQuotas
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import Clock, SystemClock
from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.closer import Closer
from broadcastd.delivery.controls import Controls
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.forecast import Reset
from broadcastd.delivery.forecaster import Forecaster
from broadcastd.delivery.gate import Gate
from broadcastd.delivery.heartbeat import Heartbeat
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.lane import Lane
from broadcastd.delivery.masses import Masses
from broadcastd.delivery.memory import Memory
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.pace import Pace
from broadcastd.delivery.planner import Planner
from broadcastd.delivery.quota_table import QuotaTable
from broadcastd.delivery.quota_watch import QuotaWatch, Watching
from broadcastd.delivery.quotas import AccountQuotas
from broadcastd.delivery.rates import Rates
from broadcastd.delivery.recorder import Recorder
from broadcastd.delivery.retention import Retention
from broadcastd.delivery.sender import Sender
from broadcastd.delivery.slice_run import SharedParts
from broadcastd.delivery.status import Status
from broadcastd.delivery.task import Task
from broadcastd.delivery.timekeeper import Timekeeper
from broadcastd.delivery.window import DEAF, HEARING
from broadcastd.errors import BroadcastdError
from broadcastd.ledgers import kind_of
from broadcastd.ledgers.identity import Place, default_folder, this_machine
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.sql import SqlLedger
from broadcastd.notices import Notices, Unheard
from broadcastd.ports import Opening, QuotaSource
from broadcastd.settings import IDENTITY_OFF, AccountSettings, LedgerSettings, Settings
from broadcastd.token_sources import TOKEN_SOURCES, AccountParts
from broadcastd.wire.listener import Listener
from broadcastd.wire.use_cases import UseCases

log = structlog.get_logger()

FLUSH_S = 5.0
"""How long the last outcomes may take to reach the disk when the daemon stops."""


class Daemon:
    """One daemon, from its settings to its end. `port` is known once `ready` is set."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.port = 0

    def stop(self) -> None:
        """Drain, then let `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped. Raises BroadcastdError when it cannot start."""
        try:
            await self._run()
        except BaseExceptionGroup as group:
            expected = group.subgroup(BroadcastdError)
            if expected is None:
                raise
            first: BaseException = expected
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None

    async def _run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            async with asyncio.TaskGroup() as group:
                loops = self._start_loops(group)
                await self._jobs.restore()
                self._account_holds.restore()
                # WeChat pushes on while the daemon drains: it tries for some 15 s only.
                async with self._callbacks.listening(self._settings.callback):
                    await self._serve()
                    await self._drain()
                for loop in loops:
                    loop.cancel()
        log.info("broadcastd_stopped", jobs_open=len(self._jobs))

    async def _serve(self) -> None:
        """Take frames until told to stop."""
        async with Listener(self._settings.server, self._use_cases) as listener:
            self.port = listener.port
            log.info("broadcastd_started", version=__version__, port=self.port, jobs_open=len(self._jobs))
            self.ready.set()
            await self._stopping.wait()
            log.info("draining", jobs_open=len(self._jobs), tasks_busy=self._dispatcher.tasks_busy)
            self._intake.stopping = True

    # -- building --------------------------------------------------------------------------------------

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        alerts = self._settings.alerts
        self._alerter = Alerter(alerts, self._clock) if alerts.urls else None
        self._notices: Notices = self._alerter or Unheard()
        self._ledger = await self._open_ledger(stack)
        self._quota_sources: dict[str, QuotaSource] = {}
        self._accounts = {
            name: self._account(name, account, stack) for name, account in self._settings.accounts.items()
        }
        self._callbacks = self._build_callbacks(stack)
        await self._callbacks.restore()
        self._build_sending()
        self._build_finish_hooks(stack)
        await self._ledger.begin_telling(self._finish_hooks, self._clock.now())
        self._build_quotas()
        self._build_use_cases()

    def _build_sending(self) -> None:
        settings, clock = self._settings, self._clock
        ledger, accounts, notices = self._ledger, self._accounts, self._notices
        wake = asyncio.Event()
        self._jobs = OpenJobs(ledger, accounts, clock, notices)
        self._closer = Closer(ledger, self._jobs, clock)
        self._dispatcher = Dispatcher(ledger, self._jobs, clock, settings.ledger.lease_s, wake)
        self._planner = Planner(ledger, self._jobs, settings.pool, clock, wake)
        self._recorder = Recorder(ledger, clock)
        self._timekeeper = Timekeeper(ledger, self._jobs, self._dispatcher, clock)
        self._heartbeat = Heartbeat(ledger, self._jobs, clock, notices)
        self._retention = Retention(ledger, timedelta(days=settings.ledger.keep_days), clock)
        self._account_holds = AccountHolds(ledger, self._jobs, self._dispatcher, clock, notices)
        shared = SharedParts(Sender(clock), self._recorder, clock)
        self._tasks = [
            Task(self._dispatcher, self._account_holds, shared) for _ in range(settings.pool.tasks)
        ]
        self._masses = [
            Masses(
                accounts[name],
                ledger,
                self._jobs,
                shared.sender,
                self._account_holds,
                clock,
                gather_s=account.mass.gather_s,
            )
            for name, account in settings.accounts.items()
            if "mass" in account.channels
        ]

    def _build_finish_hooks(self, stack: contextlib.AsyncExitStack) -> None:
        self._finish_hooks = hook_building.build(
            self._settings, self._ledger, self._notices, self._clock, stack
        )
        for hooks in self._finish_hooks.values():
            self._jobs.at_end(hooks.ended)

    def _build_use_cases(self) -> None:
        settings, clock = self._settings, self._clock
        ledger, accounts = self._ledger, self._accounts
        self._intake = Intake(ledger, accounts, self._jobs, self._forecasters, settings, clock)
        status = Status(
            self._dispatcher, self._jobs, self._intake, ledger, accounts,
            tasks=settings.pool.tasks, owner=ledger.opening.owner, clock=clock,
            callback=self._callbacks.view,
        )  # fmt: skip
        controls = Controls(ledger, self._jobs, self._dispatcher, self._closer, self._account_holds, clock)
        rates = Rates(accounts, settings.pool.tasks * settings.pool.sends_per_task)
        self._use_cases = UseCases(
            self._intake, ledger, self._jobs, controls, rates, QuotaTable(self._quota_watches),
            status, clock, self._stopping, self._notices,
        )  # fmt: skip

    def _build_quotas(self) -> None:
        ledger, jobs, clock = self._ledger, self._jobs, self._clock
        self._forecasters: dict[str, Forecaster] = {}
        self._quota_watches: dict[str, QuotaWatch] = {}
        watching = Watching(ledger, jobs, self._recorder, clock, self._notices)
        for name, account in self._accounts.items():
            quota = self._settings.accounts[name].quota
            reset = Reset(quota.resets_at, ZoneInfo(quota.timezone))
            quotas = AccountQuotas(account, self._quota_sources[name], clock)
            self._forecasters[name] = Forecaster(quotas, quota, reset, watching)
            self._quota_watches[name] = QuotaWatch(quotas, quota, reset, watching)

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
        settings = self._settings.ledger
        url = settings.url.get_secret_value()
        kind = kind_of(url)
        guard = _guard(settings, kind.place(url))
        ledger = await stack.enter_async_context(kind.build(url, self._clock, guard))
        self._log_opening(ledger.opening, kind.place(url))
        return ledger

    def _account(self, name: str, settings: AccountSettings, stack: contextlib.AsyncExitStack) -> Account:
        database = open_database(settings.audience)
        stack.push_async_callback(database.close)
        pool = self._settings.pool
        most = pool.tasks * pool.sends_per_task
        api = WechatApi(settings.api_base, settings.http, most)
        stack.push_async_callback(api.close)
        self._quota_sources[name] = WechatQuotas(api, settings)
        return Account(
            name=name,
            channels={channel: CHANNELS[channel](api, settings) for channel in settings.channels},
            audience=SqlAudience(database, settings),
            tokens=TOKEN_SOURCES[settings.token.source](
                AccountParts(name, settings, database, api, self._clock)
            ),
            gate=Gate(self._clock, name),
            lanes={channel: self._lane(name, settings, channel, most) for channel in settings.channels},
            pace=Pace(pool.tasks, pool.sends_per_task),
            timezone=ZoneInfo(settings.timezone),
            max_gone_share=settings.audience.max_gone_share,
            on_unknown=settings.on_unknown or self._settings.ledger.on_unknown,
            opt_outs=opt_outs_of(settings, self._clock),
            memory=self._memory(name, settings),
        )

    def _memory(self, name: str, settings: AccountSettings) -> Memory | None:
        if settings.window == "off":
            return None
        return Memory(name, self._ledger, self._clock, DEAF if settings.callback is None else HEARING)

    def _build_callbacks(self, stack: contextlib.AsyncExitStack) -> Callbacks:
        sites = {}
        for name, settings in self._settings.accounts.items():
            opt_outs = self._accounts[name].opt_outs
            if opt_outs is not None:
                database = open_database(settings.audience, writable=True)
                stack.push_async_callback(database.close)
                sites[name] = Site(settings, database, opt_outs)
        return build_callbacks(sites, self._ledger, self._clock, stack)

    def _lane(self, account: str, settings: AccountSettings, channel: str, most: int) -> Lane:
        section = settings.channel(channel)
        most = min(most, section.max_in_flight or most)
        return Lane(account, channel, self._clock, most, section.rate_per_s)

    # -- running ---------------------------------------------------------------------------------------

    def _start_loops(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Every background coroutine, by name. The death of one ends the daemon: a fresh start goes on."""
        loops: Mapping[str, Coroutine[Any, Any, None]] = {
            "ledger": self._ledger.watch(),
            "recorder": self._recorder.run(),
            "dispatcher": self._dispatcher.run(),
            "leases": self._dispatcher.keep_leases(),
            "planner": self._planner.run(),
            "closer": self._closer.run(),
            "timekeeper": self._timekeeper.run(),
            "heartbeat": self._heartbeat.run(),
            "retention": self._retention.run(),
            "account holds": self._account_holds.run(),
            **self._callbacks.loops(),
            **{
                f"lane {lane.channel} of {account.name}": lane.run()
                for account in self._accounts.values()
                for lane in account.lanes.values()
            },
            **{f"token of {name}": account.tokens.keep() for name, account in self._accounts.items()},
            **{f"quota of {name}": watch.run() for name, watch in self._quota_watches.items()},
            **{f"forecasts of {name}": one.run() for name, one in self._forecasters.items()},
            **{f"finish hooks of {name}": one.run() for name, one in self._finish_hooks.items()},
            **({} if self._alerter is None else {"alerts": self._alerter.run()}),
            **{f"masses of {one.account.name}": one.run() for one in self._masses},
            **{f"task {no}": task.run() for no, task in enumerate(self._tasks, 1)},
        }
        return [group.create_task(loop, name=name) for name, loop in loops.items()]

    async def _drain(self) -> None:
        """Lease nothing more, finish what is in flight, put off the rest, flush."""
        self._dispatcher.drain()
        for task in self._tasks:
            task.stop()
        for masses in self._masses:
            masses.stop()
        try:
            async with asyncio.timeout(self._settings.server.drain_s):
                await self._dispatcher.all_idle()
                for masses in self._masses:
                    await masses.idle()
        except TimeoutError:
            log.warning("drain_cut_short", tasks_busy=self._dispatcher.tasks_busy)
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._recorder.flush()
        except TimeoutError:
            log.warning("flush_cut_short", error=self._ledger.trouble)
        if self._alerter is not None:
            await self._alerter.flush()


def _guard(settings: LedgerSettings, path: str) -> Guard:
    off = settings.identity_dir == IDENTITY_OFF
    return Guard(
        place=None if off else Place(this_machine(), path),
        folder=Path(settings.identity_dir) if settings.identity_dir else default_folder(),
        longest_away=timedelta(seconds=settings.hold_after_down_s),
    )


async def serve(settings: Settings) -> None:
    """Run a daemon until SIGTERM or SIGINT. A second one ends it at once: the ledger bears that."""
    daemon = Daemon(settings)
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def drain() -> None:
        daemon.stop()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, drain)
    await daemon.run()
