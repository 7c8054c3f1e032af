"""The port `Transport`, over all implementations: how hosts are looked up."""

import asyncio
import socket

import pytest
from bed.raw_http import OK, RawServer, answer, one_call, saying
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transports import open_transport
from broadcastd.transports.endings import NO_CONNECTION


async def by_exchange(transport, base):
    return await transport.exchange("POST", URL(base), b"{}", lambda: True, 100)


@pytest.fixture(params=[by_exchange, one_call])
def call(request):
    return request.param


class Names:
    """The look-ups of the running loop."""

    def __init__(self, monkeypatch):
        self.asked = 0
        self.come, self.go, self.trouble = asyncio.Event(), asyncio.Event(), None
        loop = asyncio.get_running_loop()
        self._look_up = loop.getaddrinfo
        monkeypatch.setattr(loop, "getaddrinfo", self._answer)

    async def _answer(self, host, *arguments, **options):
        if host == "localhost":  # a server's own address is looked up, too
            self.asked += 1
            self.come.set()
            await self.go.wait()
            if self.trouble is not None:
                raise self.trouble
        return await self._look_up(host, *arguments, **options)


async def test_a_host_is_looked_up_once_for_all_who_connect(transport, call, monkeypatch):
    names = Names(monkeypatch)
    async with RawServer(saying(answer())) as server:
        made, base = transport(connections=6), f"http://localhost:{server.port}"
        calls = [asyncio.create_task(call(made, base)) for _ in range(6)]
        await names.come.wait()
        calls.pop().cancel()  # the others still get their answer
        names.go.set()
        assert await asyncio.gather(*calls) == [OK] * 5
        assert names.asked == 1


async def test_a_look_up_that_failed_is_tried_again_at_once(transport, call, monkeypatch):
    names = Names(monkeypatch)
    names.go.set()
    names.trouble = socket.gaierror(-2, "Name or service not known")
    async with RawServer(saying(answer())) as server:
        made, base = transport(), f"http://localhost:{server.port}"
        assert (await call(made, base)).refused.startswith("no connection")
        names.trouble = None
        assert await call(made, base) == OK
        assert names.asked == 2


async def test_a_look_up_that_nobody_waits_for_ends_with_its_transport(kind, call, monkeypatch):
    Names(monkeypatch)  # who never answers
    before = asyncio.all_tasks()
    made = open_transport(HttpSettings(transport=kind, connect_timeout_s=0.05), 1)
    assert await call(made, "http://localhost:1") == Answer(refused=NO_CONNECTION)
    await made.close()
    assert asyncio.all_tasks() == before
