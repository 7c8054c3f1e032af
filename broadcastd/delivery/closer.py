"""Ends jobs that were cancelled or are past their deadline: whoever is left gets an outcome first.

Calls that are under way are let end first: what they answer is a fact. Nobody is asked any more.
"""

import asyncio

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Job
from broadcastd.ports import Ledger

log = structlog.get_logger()

SLICES_AT_ONCE = 10
"""Ended in one commit: 5,000 rows take some 30 ms, for which other jobs' marks wait."""


class Closer:
    """`run` must be running."""

    def __init__(self, ledger: Ledger, jobs: OpenJobs, clock: Clock) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._clock = clock
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Close jobs as they come, and those whose last call has come back."""
        tries = 0
        while True:
            self._jobs.closing_goes_on.clear()
            try:
                for job in list(self._jobs.closing.values()):
                    await self._close(job)
                tries = 0
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("job_not_closed", error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))
                continue
            await self._jobs.closing_goes_on.wait()

    async def _close(self, job: Job) -> None:
        """End the slices that nobody works on; then, if none is left, the job."""
        if job.no in self._jobs.at_call:
            return  # its end wakes this
        left = before = None
        while left is None or (left and left != before):
            before = left
            left = await self._ledger.close_slices(job.no, SLICES_AT_ONCE, self._clock.now())
        if left:
            return  # their tasks are still at it; each one's end wakes this
        ended = await self._ledger.finish(job.no, self._clock.now())
        if ended is not None:
            self._jobs.leave(ended)
            self._ended.set()

    async def wait_ended(self, job_no: int, within_s: float) -> None:
        """Return when a closing job has ended, or after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                while job_no in self._jobs.closing:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            pass
