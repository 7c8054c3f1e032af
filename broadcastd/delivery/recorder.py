"""Writes ahead, in groups: marks before anybody up to them is asked, outcomes within 100 ms.

One batch is under way at a time; what comes meanwhile is the next one. A batch that cannot be written is kept
and tried again, for as long as it takes: no outcome is forgotten, and since no mark is granted meanwhile,
nobody is asked.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from broadcastd import retry
from broadcastd.batch import Batch, DeferralRow, GatheredRow, Learned, OutcomeRow, SentOn, SentRow, SliceMark
from broadcastd.clock import Clock
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ports import Ledger

log = structlog.get_logger()

PACE_S = 0.03
"""The least time from one commit's start to the next one's: commits back to back starve the event loop."""


class Recorder:
    """Gathers what the tasks report and writes it. `run` must be running."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._batch = Batch()
        self._wanted: list[tuple[Callable[[], SliceMark | None], asyncio.Future[bool]]] = []
        self._flushed: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self.trouble = ""

    def end(self, row: OutcomeRow) -> None:
        """A recipient has an outcome."""
        self._batch.outcomes.append(row)
        self._wake.set()

    def sent(self, on: SentOn, row: SentRow) -> None:
        """A recipient has got a message at the first try: as `end`, for the many."""
        rows = self._batch.sent.get(on)
        if rows is None:
            self._batch.sent[on] = [row]
            self._wake.set()
        else:
            rows.append(row)

    def put_off(self, row: DeferralRow) -> None:
        """A recipient is due again later."""
        self._batch.deferrals.append(row)
        self._wake.set()

    def learn(self, learned: Sequence[Learned]) -> None:
        """WeChat has said something of followers."""
        self._batch.learned.extend(learned)
        self._wake.set()

    def save(self, job_no: int, calls: int) -> None:
        """So many calls of a job were not made."""
        self._batch.saved[job_no] = self._batch.saved.get(job_no, 0) + calls
        self._wake.set()

    def gather(self, row: GatheredRow, put_off: DeferralRow) -> None:
        """A recipient waits for a mass message: both rows come into the same commit."""
        self._batch.gathered.append(row)
        self.put_off(put_off)

    async def mark(self, make: Callable[[], SliceMark | None]) -> bool:
        """Return once the mark is on disk: True, or False when the lease is no longer valid.

        `make` is asked for it right before it is written: how far it goes may depend on who has been answered
        by then. None: no mark is wanted any more.
        """
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._wanted.append((make, granted))
        self._wake.set()
        return await granted

    async def flush(self) -> None:
        """Return once everything that was reported before is on disk."""
        flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushed.append(flushed)
        self._wake.set()
        await flushed

    async def run(self) -> None:
        """Write batches until cancelled; then what is left must be flushed by the caller first."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            started_s = self._clock.monotonic_s()
            batch, flushed, wanted = self._batch, self._flushed, self._wanted
            self._batch, self._flushed, self._wanted = Batch(), [], []
            granted = _marked(batch, wanted)
            invalid = await self._write(batch) if batch else frozenset()
            for mark, future in zip(batch.marks, granted, strict=True):
                if not future.done():
                    future.set_result(mark.lease.token not in invalid)
            for waiting in flushed:
                if not waiting.done():
                    waiting.set_result(None)
            await self._clock.sleep(max(0.0, started_s + PACE_S - self._clock.monotonic_s()))

    async def _write(self, batch: Batch) -> frozenset[int]:
        tries = 0
        while True:
            try:
                invalid = await self._ledger.record(batch, self._clock.now())
            except LedgerUnavailableError as error:
                tries += 1
                self.trouble = str(error)
                log.warning("ledger_unwritable", error=str(error), outcomes_kept=batch.outcome_count)
                await self._clock.sleep(retry.LEDGER.delay_s(tries))
            else:
                if self.trouble:
                    log.info("ledger_writable_again")
                    self.trouble = ""
                return invalid


def _marked(
    batch: Batch, wanted: Sequence[tuple[Callable[[], SliceMark | None], asyncio.Future[bool]]]
) -> Sequence[asyncio.Future[bool]]:
    """Put the marks that are wanted into the batch; who waits for each."""
    granted = []
    for make, future in wanted:
        if future.done():
            continue  # cancelled
        try:
            mark = make()
        # A bug in one slice must not keep the others from being recorded.
        except Exception as error:
            future.set_exception(error)
            continue
        if mark is None:
            future.set_result(True)
        else:
            batch.marks.append(mark)
            granted.append(future)
    return granted
