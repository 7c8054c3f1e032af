"""The port `MassLedger` in SQL: which change each method is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from broadcastd.chunks import Chunk, MassStand
from broadcastd.ledgers import mass_changes
from broadcastd.mass_ports import ChunkEnd, Member

T = TypeVar("T")


class SqlMasses(ABC):
    """Implements `MassLedger` but for the commits themselves."""

    @abstractmethod
    async def _write(self, change: Callable[[sa.Connection], T], patience_s: float | None = None) -> T:
        """See `SqlLedger`."""

    @abstractmethod
    async def _read(self, query: Callable[[sa.Connection], T]) -> T:
        """See `SqlLedger`."""

    async def mass_chunks(self, job_no: int) -> Sequence[Chunk]:
        """See `Ledger`."""
        return await self._read(lambda one: mass_changes.chunks(one, job_no))

    async def mass_stand(self, job_no: int) -> MassStand:
        """See `MassLedger`."""
        return await self._read(lambda one: mass_changes.stand(one, job_no))

    async def gathered(self, job_no: int, limit: int) -> Sequence[Member]:
        """See `MassLedger`."""
        return await self._read(lambda one: mass_changes.in_no_chunk(one, job_no, limit))

    async def chunk_members(self, job_no: int, no: int) -> Sequence[Member]:
        """See `MassLedger`."""
        return await self._read(lambda one: mass_changes.members(one, job_no, no))

    async def make_chunk(
        self, job_no: int, ids: Collection[int], gone: Collection[int], now: datetime
    ) -> Chunk | None:
        """See `MassLedger`."""
        return await self._write(lambda one: mass_changes.make(one, job_no, ids, gone, now))

    async def ask_chunk(self, job_no: int, no: int, now: datetime) -> Sequence[Member] | None:
        """See `MassLedger`."""
        return await self._write(lambda one: mass_changes.ask(one, job_no, no, now))

    async def chunk_not_sent(self, job_no: int, no: int, errcode: int = 0) -> None:
        """See `MassLedger`."""
        await self._write(lambda one: mass_changes.not_sent(one, job_no, no, errcode))

    async def end_chunk(self, job_no: int, no: int, end: ChunkEnd, now: datetime) -> None:
        """See `MassLedger`."""
        await self._write(lambda one: mass_changes.end(one, job_no, no, end, now))

    async def give_up_chunk(self, job_no: int, no: int, errcode: int = 0) -> None:
        """See `MassLedger`."""
        await self._write(lambda one: mass_changes.give_up(one, job_no, no, errcode))

    async def halve_chunk(self, job_no: int, no: int, errcode: int, now: datetime) -> None:
        """See `MassLedger`."""
        await self._write(lambda one: mass_changes.halve(one, job_no, no, errcode, now))

    async def pass_on(self, job_no: int, channel_no: int, only_chunk: int | None, now: datetime) -> int:
        """See `MassLedger`."""
        return await self._write(lambda one: mass_changes.pass_on(one, job_no, channel_no, only_chunk, now))

    async def end_waiting(self, job_no: int, end: ChunkEnd, now: datetime) -> int:
        """See `MassLedger`."""
        return await self._write(lambda one: mass_changes.end_waiting(one, job_no, end, now))
