"""Starts the daemon, and drains it."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from broadcastd import __version__, allocator, garbage, interpreter_lock, open_files
from broadcastd.activation import Inherited
from broadcastd.building import Parts
from broadcastd.clock import Clock, SystemClock
from broadcastd.errors import BroadcastdError, SettingsError
from broadcastd.life import Life
from broadcastd.live_settings import LiveSettings, Living
from broadcastd.notify import Notifier
from broadcastd.reload import Reloaded
from broadcastd.settings import Settings
from broadcastd.watchdog import Watchdog
from broadcastd.wire.listener import Listener

log = structlog.get_logger()

FLUSH_S = 5.0
"""How long the last outcomes may take to reach the disk when the daemon stops."""
TELL_S = 1.0
"""How often a drain is told of."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the process was started with."""

    read: Callable[[], Settings] | None = None
    """The settings as they are now; None: they cannot be read again."""
    sockets: Inherited = field(default_factory=Inherited)
    notifier: Notifier = field(default_factory=Notifier)
    reopen_log: Callable[[], None] = lambda: None
    """The log's file may have been moved away. Raises OSError."""
    ready: Callable[[int], None] = lambda port: None
    """The port answers."""
    hang_up_stops: bool = False
    """SIGHUP means that the terminal is gone, not that the settings have changed."""


class Daemon:
    """One daemon, from its settings to its end. `port` is known once `ready` is set."""

    def __init__(
        self, settings: Settings, clock: Clock | None = None, surroundings: Surroundings | None = None
    ) -> None:
        self._settings = settings
        self._surroundings = surroundings or Surroundings()
        self._notifier = self._surroundings.notifier
        self._clock = clock or SystemClock()
        self._life = Life(self.reload)
        self._parts = Parts(settings, self._clock, self._life)
        self._live: LiveSettings | None = None
        self.ready = asyncio.Event()
        self.port = 0

    def stop(self) -> None:
        """Drain, then let `run` return."""
        self._life.stopping.set()

    def reload(self) -> Reloaded:
        """Read the settings again. Raises SettingsError: nothing is changed then."""
        if self._live is None or self._life.stopping.is_set():
            raise SettingsError("broadcastd is starting or stopping; try again when it runs")
        self._notifier.reloading()
        try:
            return self._live.reload()
        except SettingsError as error:
            log.error("settings_not_reloaded", error=str(error))  # noqa: TRY400 - no bug of ours
            raise
        finally:
            self._notifier.ready(self._status())

    def hung_up(self) -> None:
        """SIGHUP."""
        if self._surroundings.hang_up_stops:
            self.stop()
            return
        try:
            self._surroundings.reopen_log()
        except OSError as error:
            log.error("log_not_reopened", error=str(error))  # noqa: TRY400 - no bug of ours
        with contextlib.suppress(SettingsError):  # it is in the log
            self.reload()

    def _status(self) -> str:
        return f"port {self.port}, {len(self._parts.jobs)} jobs open"

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
        parts, http = self._parts, self._surroundings.sockets.http
        self._check_sockets()
        async with contextlib.AsyncExitStack() as stack:
            await parts.open(stack)
            async with asyncio.TaskGroup() as group:
                loops = self._start_loops(group)
                await parts.restore()
                # WeChat pushes on while the daemon drains: it tries for some 15 s only.
                async with parts.callbacks.listening(self._settings.callback), parts.http.listening(http):
                    await self._serve()
                for loop in loops:
                    loop.cancel()
        log.info("broadcastd_stopped", jobs_open=len(parts.jobs))

    def _check_sockets(self) -> None:
        """What the settings promise of `server.host` holds for an address from outside too."""
        try:
            for one in self._surroundings.sockets.frames:
                self._settings.server.check_host(one.getsockname()[0])
        except ValueError as error:
            raise SettingsError(f"the inherited socket: {error}") from None

    def _start_loops(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """The death of one ends the daemon: a fresh start goes on."""
        loops: dict[str, Coroutine[Any, Any, None]] = {**self._parts.loops()}
        if self._notifier.watchdog_s is not None:
            loops["watchdog"] = Watchdog(self._notifier, self._parts.vitals.progressing, self._clock).run()
        return [group.create_task(loop, name=name) for name, loop in loops.items()]

    async def _serve(self) -> None:
        """Take frames until told to stop, and drain."""
        parts = self._parts
        sockets = self._surroundings.sockets.frames
        async with Listener(self._settings.server, parts.desk, self._life.stopping, sockets) as listener:
            self._live = LiveSettings(
                self._settings, self._surroundings.read or (lambda: self._settings), Living(parts, listener)
            )
            self.port = listener.port
            log.info("broadcastd_started", version=__version__, port=self.port, jobs_open=len(parts.jobs))
            self.ready.set()
            parts.listening = True
            self._surroundings.ready(self.port)
            self._notifier.ready(self._status())
            await self._life.stopping.wait()
            parts.listening = False
            log.info("draining", jobs_open=len(parts.jobs), tasks_busy=parts.dispatcher.tasks_busy)
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(self._tell_of_drain(), name="drain told")
                await listener.shut()
                parts.intake.stopping = True
                await listener.dismiss()
                await self._drain(self._live.now.server.drain_s)
                telling.cancel()
            self._life.drained.set()

    async def _tell_of_drain(self) -> None:
        while True:
            busy = self._parts.dispatcher.tasks_busy
            self._notifier.stopping(f"draining, {busy} tasks busy")
            await self._clock.sleep(TELL_S)

    async def _drain(self, drain_s: float) -> None:
        """Lease nothing more, finish what is in flight, put off the rest, flush."""
        parts = self._parts
        try:
            async with asyncio.timeout(drain_s):
                await parts.stop_sending()
        except TimeoutError:
            log.warning("drain_cut_short", tasks_busy=parts.dispatcher.tasks_busy)
        try:
            async with asyncio.timeout(FLUSH_S):
                await parts.recorder.flush()
        except TimeoutError:
            log.warning("flush_cut_short", error=parts.ledger.trouble)
        if parts.alerter is not None:
            await parts.alerter.flush()


async def serve(settings: Settings, surroundings: Surroundings | None = None) -> None:
    """Run a daemon until SIGTERM or SIGINT. A second one ends it at once: the ledger bears that.

    SIGHUP reopens the log and reads the settings again.
    """
    open_files.raise_limit()
    allocator.keep_little()
    garbage.look_rarely()
    interpreter_lock.short_turns()
    daemon = Daemon(settings, surroundings=surroundings)
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def drain() -> None:
        daemon.stop()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, drain)
    loop.add_signal_handler(signal.SIGHUP, daemon.hung_up)
    await daemon.run()
