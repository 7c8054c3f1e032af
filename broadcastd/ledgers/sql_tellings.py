"""The port `TellingLedger` in SQL: which change each method is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from broadcastd.ledgers import telling_changes
from broadcastd.model import Job

T = TypeVar("T")


class SqlTellings(ABC):
    """Implements `TellingLedger` but for the commits themselves."""

    @abstractmethod
    async def _write(self, change: Callable[[sa.Connection], T], patience_s: float | None = None) -> T:
        """See `SqlLedger`."""

    @abstractmethod
    async def _read(self, query: Callable[[sa.Connection], T]) -> T:
        """See `SqlLedger`."""

    async def begin_telling(self, accounts: Collection[str], now: datetime) -> None:
        """See `TellingLedger`."""
        await self._write(lambda one: telling_changes.begin(one, accounts, now))

    async def untold(self, account: str, after: int, limit: int) -> Sequence[Job]:
        """See `TellingLedger`."""
        return await self._read(lambda one: telling_changes.untold(one, account, after, limit))

    async def note_told(self, job_no: int, round_no: int, now: datetime) -> None:
        """See `TellingLedger`."""
        await self._write(lambda one: telling_changes.note_told(one, job_no, round_no, now))
