"""How checks wait: for what blocks, and for what several of them want to know."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """An event loop's executor that nobody waits for at the end: a disk or a name server may hang."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Each call has a thread of its own."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=run, name="doctor", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing to wait for."""


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
