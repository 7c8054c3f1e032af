"""How checks wait: for what blocks, and for what several of them want to know."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def in_thread(do: Callable[[], T]) -> T:
    """Run what may block, such as a disk that hangs. Given up, it keeps nobody: its thread is a daemon."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = do()
        except Exception as caught:
            error = caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await done


class Once(Generic[T]):
    """Asked for by several checks, done once; its failure is everybody's, too."""

    def __init__(self, do: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._do = do
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """The result. Who gives up waiting does not end it for the others."""
        if self._task is None:
            self._task = asyncio.create_task(self._do())
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """End it, if it is still at work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
