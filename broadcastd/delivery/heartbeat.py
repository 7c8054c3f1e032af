"""Notes in the ledger that this daemon is alive, and by it notices when the ledger fails and is back.

An operator is told of both, and of a ledger that is a copy.
"""

import asyncio

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerSilentError, LedgerUnavailableError
from broadcastd.notices import Notice, NoticeKind, Notices
from broadcastd.ports import Ledger

log = structlog.get_logger()

EVERY_S = 5.0
IN_TROUBLE_S = 1.0


class Heartbeat:
    """`run` must be running."""

    def __init__(self, ledger: Ledger, jobs: OpenJobs, clock: Clock, notices: Notices) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._clock = clock
        self._notices = notices
        self._copied = False
        self._answered_s = clock.monotonic_s()
        self._turn = asyncio.Lock()

    @property
    def silent_s(self) -> float:
        """For how long the ledger has said nothing: neither that it is written, nor why it is not."""
        return self._clock.monotonic_s() - self._answered_s

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be written, as it says itself; empty when all is well."""
        return self._ledger.trouble

    async def beat(self) -> None:
        """One commit, on disk when it returns; one at a time. Raises LedgerUnavailableError."""
        async with self._turn:
            try:
                await self._ledger.alive(self._clock.now())
            except LedgerSilentError:
                raise
            except LedgerUnavailableError:
                self._answered_s = self._clock.monotonic_s()
                raise
            self._answered_s = self._clock.monotonic_s()

    async def run(self) -> None:
        """One beat after the other."""
        trouble = ""
        while True:
            self._look_whether_copied()
            try:
                await self.beat()
                if trouble:
                    log.info("ledger_writable_again", was=trouble)
                    self._notices.tell(Notice(NoticeKind.LEDGER_UNWRITABLE, over=True))
                    # A commit that nobody waited for any more may have brought a job after all.
                    await self._jobs.restore()
                trouble = ""
            except LedgerUnavailableError as error:
                if not trouble:
                    self._notices.tell(Notice(NoticeKind.LEDGER_UNWRITABLE, facts={"reason": str(error)}))
                if str(error) != trouble:
                    log.error("ledger_unwritable", error=str(error))  # noqa: TRY400 - no traceback: a disk, not a bug
                trouble = str(error)
            await self._clock.sleep(IN_TROUBLE_S if trouble else EVERY_S)

    def _look_whether_copied(self) -> None:
        why = self._ledger.copied
        if why and not self._copied:
            self._notices.tell(Notice(NoticeKind.LEDGER_COPIED, facts={"reason": why}))
        elif self._copied and not why:
            self._notices.tell(Notice(NoticeKind.LEDGER_COPIED, over=True))
        self._copied = bool(why)
