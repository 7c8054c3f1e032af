"""Work that follows its owner one step behind: the last piece is done while the next one is made ready."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self


class OneBehind:
    """Does one piece of work at a time, in order, beside its owner.

    An async context manager. Leaving it waits for the last piece; what went wrong with that is raised, unless
    something else has gone wrong already.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether what was begun last is not done yet."""
        return self._under_way is not None and not self._under_way.done()

    async def do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin `work` once the piece before it is done. Raises what went wrong with that one."""
        await self._done()
        self._under_way = asyncio.create_task(work(), name=self._name)

    async def _done(self) -> None:
        before, self._under_way = self._under_way, None
        if before is not None:
            await before

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._done()
        elif self._under_way is not None:
            if isinstance(error, asyncio.CancelledError):
                self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)
