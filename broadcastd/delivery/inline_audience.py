"""The audience of a test send: the openids lie in the job. Their ids are 1, 2, 3 …"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime


class InlineAudience:
    """Implements `Audience` over a list of openids."""

    def __init__(self, openids: Sequence[str]) -> None:
        self._rows = list(enumerate(openids, 1))

    @contextlib.asynccontextmanager
    async def ids(self, now: datetime, after: int | None) -> AsyncIterator[AsyncIterator[Sequence[int]]]:
        """See `Audience`."""
        del now
        yield _one_block([one for one, _ in self._rows if one > (after or 0)])

    async def page(self, now: datetime, page_no: int, page_size: int) -> Sequence[int]:
        """See `Audience`."""
        del now
        return [one for one, _ in self._rows[page_no * page_size : (page_no + 1) * page_size]]

    async def pull(self, now: datetime, first: int, last: int) -> Sequence[tuple[int, str]]:
        """See `Audience`."""
        del now
        return [row for row in self._rows if first <= row[0] <= last]

    async def count(self, now: datetime, through: int | None = None) -> int:
        """See `Audience`."""
        del now
        return len([one for one, _ in self._rows if through is None or one <= through])


async def _one_block(ids: Sequence[int]) -> AsyncIterator[Sequence[int]]:
    if ids:
        yield ids
