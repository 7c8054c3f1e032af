"""A TCP proxy in front of MariaDB that goes wrong exactly at a COMMIT. It runs in the test's event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal, cast

Fault = Literal["unsent", "unanswered", "silent", "held"]
"""unsent: the connection is cut, and the server never sees the COMMIT.
unanswered: it is cut once the server has answered it.
silent: the server answers it, nothing of that arrives, and the connection stays.
held: the client is cut off while the server still has the connection, and the open transaction."""

COMMIT = b"\x03COMMIT"


class CommitProxy:
    """`fault` holds for the next COMMIT only."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.fault: Fault | None = None
        self.struck = asyncio.Event()
        self.refusing = False
        self.delay_s = 0.0
        """Requests arrive so much later."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        self._tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        self._writers.append(answers)
        if self.refusing:
            answers.close()
            return
        server, requests = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.append(requests)
        back = asyncio.create_task(_pump(server, answers))
        self._tasks.add(back)
        held = False
        try:
            while data := await client.read(65536):
                fault = self.fault if data[4:] == COMMIT else None
                if fault is not None:
                    self.fault = None
                    held = await self._strike(fault, data, back, server, requests)
                    self.struck.set()
                    if fault == "silent":
                        continue
                    break
                await asyncio.sleep(self.delay_s)
                requests.write(data)
        except ConnectionError:
            pass
        finally:
            back.cancel()
            answers.close()
            if not held:
                requests.close()

    async def _strike(
        self,
        fault: Fault,
        data: bytes,
        back: "asyncio.Task[None]",
        server: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
    ) -> bool:
        """Whether the server's side is to stay open."""
        if fault in ("unanswered", "silent"):
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await back
            requests.write(data)
            assert await server.read(65536)  # the server has committed
        return fault == "held"

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _pump(server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await server.read(65536):
            answers.write(data)
    answers.close()


@contextlib.asynccontextmanager
async def commit_proxy(target: int) -> AsyncIterator[CommitProxy]:
    """A proxy in front of this port."""
    proxy = CommitProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
