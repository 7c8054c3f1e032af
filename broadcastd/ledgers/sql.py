"""The port `Ledger` in SQL: which change each method is. How a change is committed is the database's own."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa

from broadcastd.batch import Batch
from broadcastd.clock import Clock, to_ms
from broadcastd.frozen import Ids
from broadcastd.ledgers import (
    accept_changes,
    follower_changes,
    hastening,
    job_changes,
    opening_changes,
    push_changes,
    record_changes,
    retention_changes,
    retry_changes,
    slice_changes,
)
from broadcastd.ledgers.groups import Alike
from broadcastd.ledgers.identity import Identity, IdentityFile, later
from broadcastd.ledgers.listing import list_block
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.rows import load_jobs, load_rounds
from broadcastd.ledgers.schema import jobs, slices
from broadcastd.ledgers.sql_masses import SqlMasses
from broadcastd.ledgers.sql_tellings import SqlTellings
from broadcastd.metrics import Commits
from broadcastd.model import NO_HOLD, Hold, Job, Known, Lease, Listed, NewJob, Round, Settled, Split
from broadcastd.outcomes import Outcome
from broadcastd.ports import Accepted, Opening
from broadcastd.pushes import NewPush, WaitingPush
from broadcastd.states import JOB_OPEN, JobState

T = TypeVar("T")
Change = Callable[[sa.Connection], T]

PATIENCE_S = 5.0
"""How long who waits at a socket is let wait for a commit whose fate is not known yet, and the heartbeat."""


_JOB = sa.select(jobs).where(jobs.c.id == sa.bindparam("the_id"))


class SqlLedger(SqlMasses, SqlTellings):
    """Implements `Ledger` but for the commits themselves."""

    opening: Opening

    def __init__(self, clock: Clock, guard: Guard) -> None:
        self._clock = clock
        self._guard = guard
        self._identity: Identity | None = None
        self._copied = ""
        self.commits = Commits()

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Open it. Raises LedgerUnavailableError, LedgerInUseError and LedgerVersionError."""

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what waits, and close it."""

    async def _settle_in(self) -> None:
        """What every start does once changes can be written."""
        known = await self._known()
        now = self._clock.now()
        self.opening, self._identity = await self._write(
            lambda one: opening_changes.open_ledger(one, self._guard, known, now)
        )
        self._copied = self.opening.copied
        await self._note_outside()

    async def _known(self) -> Identity | None:
        own = await self._read(opening_changes.identity_of)
        if own is None or self._guard.place is None:
            return None
        return await asyncio.to_thread(IdentityFile(self._guard.folder, own.ledger).read)

    async def _note_outside(self) -> None:
        if self._identity is not None:
            file = IdentityFile(self._guard.folder, self._identity.ledger)
            await asyncio.to_thread(file.write, self._identity)

    @abstractmethod
    async def _write(self, change: Change[T], patience_s: float | None = None) -> T:
        """Commit a change, and return its result once it is on disk.

        Raises LedgerUnavailableError when it is not, and after `patience_s` when that is not known.
        """

    @abstractmethod
    async def _read(self, query: Change[T]) -> T:
        """The result of a query. Raises LedgerUnavailableError."""

    @abstractmethod
    async def watch(self) -> None:
        """Raise what ends the writing for good, when it does: the daemon must not go on then."""

    @property
    def _owner(self) -> str:
        return self.opening.owner

    # -- jobs ------------------------------------------------------------------------------------------

    async def accept(self, job: NewJob, dedupe_window: timedelta) -> Accepted:
        """See `Ledger`."""
        offer = accept_changes.Offer(job, dedupe_window, self._copied)
        return await self._write(Alike(accept_changes.accept, offer), PATIENCE_S)

    async def add_slices(
        self,
        job_no: int,
        slices: Sequence[Sequence[int]],
        *,
        planned: bool,
        may_be_empty: bool = False,
    ) -> None:
        """See `Ledger`."""
        now = self._clock.now()
        cut = [one if isinstance(one, Ids) else Ids.of(one) for one in slices]
        await self._write(
            lambda one: job_changes.add_slices(
                one, job_no, cut, now, planned=planned, may_be_empty=may_be_empty
            )
        )

    async def move(self, job_no: int, target: JobState, reason: str = "", hold: Hold = NO_HOLD) -> bool:
        """See `Ledger`."""
        return await self._write(lambda one: job_changes.move(one, job_no, target, reason, hold), PATIENCE_S)

    async def resume(self, job_no: int) -> bool:
        """See `Ledger`."""
        return await self._write(lambda one: job_changes.resume(one, job_no), PATIENCE_S)

    async def warn(self, job_no: int, warnings: Sequence[str]) -> None:
        """See `Ledger`."""
        await self._write(lambda one: job_changes.warn(one, job_no, warnings))

    async def hasten(self, job_no: int, channel_no: int, now: datetime, after: int = 0) -> int | None:
        """See `Ledger`."""
        return await self._write(lambda one: hastening.hasten(one, job_no, channel_no, now, after))

    async def finish(self, job_no: int, now: datetime) -> Job | None:
        """See `Ledger`."""
        return await self._write(lambda one: job_changes.finish(one, job_no, now))

    async def close_slices(self, job_no: int, limit: int, now: datetime) -> int:
        """See `Ledger`."""
        return await self._write(lambda one: slice_changes.close(one, job_no, limit, now))

    async def retry(
        self,
        job_no: int,
        round_no: int,
        only: Collection[Outcome],
        now: datetime,
        not_after: datetime | None,
    ) -> bool:
        """See `Ledger`."""
        return await self._write(
            lambda one: retry_changes.start_round(one, job_no, round_no, only, now, not_after), PATIENCE_S
        )

    async def retried_ids(self, job_no: int, after: int | None, limit: int) -> Sequence[int]:
        """See `Ledger`."""
        return await self._read(lambda one: retry_changes.retried_ids(one, job_no, after, limit))

    async def job(self, job_id: str) -> Job | None:
        """See `Ledger`."""
        found = await self._read(lambda one: load_jobs(one, _JOB, {"the_id": job_id}))
        return found[0] if found else None

    async def jobs(self, limit: int, *, only_open: bool = False, account: str | None = None) -> Sequence[Job]:
        """See `Ledger`."""
        if only_open:
            query = sa.select(jobs).where(jobs.c.state.in_(JOB_OPEN)).order_by(jobs.c.no)
        else:
            query = sa.select(jobs).order_by(jobs.c.no.desc())
        if account is not None:
            query = query.where(jobs.c.account == account)
        return await self._read(lambda one: load_jobs(one, query.limit(limit)))

    async def rounds(self, job_no: int) -> Sequence[Round]:
        """See `Ledger`."""
        return await self._read(lambda one: load_rounds(one, job_no))

    async def listed(self, job_no: int, after: int | None) -> tuple[Sequence[Listed], int | None]:
        """See `Ledger`."""
        return await self._read(lambda one: list_block(one, job_no, after))

    # -- slices ----------------------------------------------------------------------------------------

    async def open_slices(self, now: datetime) -> Mapping[int, int]:
        """See `Ledger`."""
        return await self._read(lambda one: slice_changes.open_slices(one, now))

    async def next_due_at(self, job_no: int | None = None) -> datetime | None:
        """See `Ledger`."""
        return await self._read(lambda one: slice_changes.next_due_at(one, job_no))

    async def lease(self, shares: Mapping[int, int], now: datetime, until: datetime) -> Sequence[Lease]:
        """See `Ledger`."""
        return await self._write(lambda one: slice_changes.lease(one, shares, now, self._owner, until))

    async def renew(self, now: datetime, until: datetime) -> None:
        """See `Ledger`."""
        await self._write(lambda one: slice_changes.renew(one, self._owner, now, until))

    async def record(self, batch: Batch, now: datetime) -> frozenset[int]:
        """See `Ledger`."""
        beats = bool(batch.marks) and self._identity is not None and not self._copied

        def change(connection: sa.Connection) -> tuple[frozenset[int], int | None]:
            invalid = record_changes.record(connection, batch, now)
            return invalid, opening_changes.beat(connection, now) if beats else None

        invalid, beat = await self._write(change)
        self.commits.rows.observe(batch.rows)
        # Before anybody is asked: a copy made until now is known to be behind.
        if beat is not None and self._identity is not None:
            IdentityFile(self._guard.folder, self._identity.ledger).note(beat)
        return invalid

    async def split(self, splits: Sequence[Split], now: datetime, until: datetime) -> Sequence[Lease | None]:
        """See `Ledger`."""
        return await self._write(
            lambda one: [slice_changes.split(one, split, now, self._owner, until) for split in splits]
        )

    async def settle(self, lease: Lease, now: datetime) -> Settled:
        """See `Ledger`."""
        return await self._write(lambda one: slice_changes.settle(one, lease, now))

    async def recover(self, working: Collection[int], now: datetime) -> int:
        """See `Ledger`."""
        run_out = sa.and_(slices.c.lease_until <= to_ms(now), slices.c.lease.not_in(working))
        found, _ = await self._write(lambda one: slice_changes.recover(one, run_out, now))
        return found

    # -- pushes ----------------------------------------------------------------------------------------

    async def take_pushes(self, some: Sequence[NewPush], now: datetime) -> Sequence[bool]:
        """See `Ledger`."""
        return await self._write(lambda one: push_changes.take(one, some, now), PATIENCE_S)

    async def waiting_pushes(self, account: str, after: int, limit: int) -> Sequence[WaitingPush]:
        """See `Ledger`."""
        return await self._read(lambda one: push_changes.waiting(one, account, after, limit))

    async def note_applied(self, numbers: Collection[int], now: datetime) -> None:
        """See `Ledger`."""
        await self._write(lambda one: push_changes.note_applied(one, numbers, now))

    async def opted_out(self, account: str) -> Collection[str]:
        """See `Ledger`."""
        return await self._read(lambda one: push_changes.opted_out(one, account))

    # -- followers -------------------------------------------------------------------------------------

    async def known(self, account: str, openids: Sequence[str]) -> Mapping[str, Known]:
        """See `Ledger`."""
        return await self._read(lambda one: follower_changes.known(one, account, openids))

    async def forget_followers(
        self, now: datetime, keep: timedelta, after: tuple[str, str] | None, limit: int
    ) -> tuple[int, tuple[str, str] | None]:
        """See `Ledger`."""
        return await self._write(lambda one: follower_changes.forget(one, now - keep, after, limit))

    # -- the ledger itself -----------------------------------------------------------------------------

    async def purge(self, now: datetime, keep: timedelta, limit: int) -> int:
        """See `Ledger`."""
        return await self._write(lambda one: retention_changes.purge(one, now, keep, limit))

    async def report_key(self) -> str:
        """See `Ledger`."""
        return await self._write(opening_changes.report_key, PATIENCE_S)

    async def alive(self, now: datetime) -> None:
        """See `Ledger`."""
        if self._copied:
            await self._write(lambda one: opening_changes.note_alive(one, now), PATIENCE_S)
            return
        beat = await self._write(lambda one: opening_changes.beat(one, now), PATIENCE_S)
        if self._identity is not None:
            self._identity = later(self._identity, beat)
        await self._note_outside()

    async def adopt(self) -> int:
        """See `Ledger`."""
        place = self._guard.place
        self._identity, released = await self._write(lambda one: opening_changes.adopt(one, place))
        self._copied = ""
        await self._note_outside()
        return released

    @property
    def copied(self) -> str:
        """See `Ledger`."""
        return self._copied

    @property
    @abstractmethod
    def trouble(self) -> str:
        """See `Ledger`."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """See `Ledger`."""
