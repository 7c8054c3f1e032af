"""Starts the daemon, and drains it."""

import asyncio
import contextlib
import signal

import structlog

from broadcastd import __version__
from broadcastd.building import Parts
from broadcastd.clock import Clock, SystemClock
from broadcastd.errors import BroadcastdError
from broadcastd.settings import Settings
from broadcastd.wire.listener import Listener

log = structlog.get_logger()

FLUSH_S = 5.0
"""How long the last outcomes may take to reach the disk when the daemon stops."""


class Daemon:
    """One daemon, from its settings to its end. `port` is known once `ready` is set."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._parts = Parts(settings, clock or SystemClock(), self._stopping)
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
        parts = self._parts
        async with contextlib.AsyncExitStack() as stack:
            await parts.open(stack)
            async with asyncio.TaskGroup() as group:
                loops = self._start_loops(group)
                await parts.restore()
                # WeChat pushes on while the daemon drains: it tries for some 15 s only.
                async with parts.callbacks.listening(self._settings.callback):
                    await self._serve()
                    await self._drain()
                for loop in loops:
                    loop.cancel()
        log.info("broadcastd_stopped", jobs_open=len(parts.jobs))

    def _start_loops(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """The death of one ends the daemon: a fresh start goes on."""
        return [group.create_task(loop, name=name) for name, loop in self._parts.loops().items()]

    async def _serve(self) -> None:
        """Take frames until told to stop."""
        parts = self._parts
        async with Listener(self._settings.server, parts.desk, self._stopping) as listener:
            self.port = listener.port
            log.info("broadcastd_started", version=__version__, port=self.port, jobs_open=len(parts.jobs))
            self.ready.set()
            await self._stopping.wait()
            log.info("draining", jobs_open=len(parts.jobs), tasks_busy=parts.dispatcher.tasks_busy)
            parts.intake.stopping = True

    async def _drain(self) -> None:
        """Lease nothing more, finish what is in flight, put off the rest, flush."""
        parts = self._parts
        try:
            async with asyncio.timeout(self._settings.server.drain_s):
                await parts.stop_sending()
        except TimeoutError:
            log.warning("drain_cut_short", tasks_busy=parts.dispatcher.tasks_busy)
        try:
            async with asyncio.timeout(FLUSH_S):
                await parts.recorder.flush()
        except TimeoutError:
            log.warning("flush_cut_short", error=parts.ledger.trouble)


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
