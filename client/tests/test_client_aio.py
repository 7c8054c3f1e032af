"""The asyncio twin: the same promises, and a loop that never stands still."""

import asyncio
import json
import threading
import time

import pytest
from client_scripted import Scripted, answer, free_port, hang_up, refuse, scripted, stay_silent

from broadcastd_client import AsyncClient, NoAnswer, Refused, Unreachable

TEXT = "求購玉米 😀"


async def test_the_twin_has_the_same_methods(tmp_path):
    with scripted(answer) as server:
        client = AsyncClient(port=server.port, spool=tmp_path / "spool")
        assert (await client.broadcast(TEXT, key="order-17"))["job"] == "j-order-17"
        assert (await client.ping())["version"] == "9"
        assert (await client.job("j1"))["op"] == "job"
        assert (await client.call("cancel", job="j1"))["op"] == "cancel"
        assert (await client.flush())["sent"] == 0


async def test_the_twin_fails_with_the_same_facts(tmp_path):
    with pytest.raises(Unreachable) as caught:
        await AsyncClient(port=free_port(), timeout_s=0.2, spool=tmp_path / "spool").broadcast(TEXT)
    assert caught.value.spooled
    with scripted(hang_up) as server, pytest.raises(NoAnswer):
        await AsyncClient(port=server.port, timeout_s=0.2).broadcast(TEXT)
    with scripted(refuse("conflict", False)) as server, pytest.raises(Refused):
        await AsyncClient(port=server.port).broadcast(TEXT)
    with pytest.raises(TypeError):
        await AsyncClient().broadcast(None)


async def test_many_calls_at_once_do_not_wait_for_each_other_nor_stop_the_loop():
    together = threading.Barrier(40)

    def play(server: Scripted, sock):
        server.read(sock)
        together.wait(10)  # passes only when all 40 are being asked at the same time
        sock.sendall(b'{"ok":true,"job":"j1"}\n')

    with scripted(play) as server:
        client = AsyncClient(port=server.port, timeout_s=10)
        calls = asyncio.gather(*(client.broadcast(TEXT) for _ in range(40)))
        longest_s, last_s = 0.0, time.monotonic()
        while not calls.done():
            await asyncio.sleep(0)
            longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()
        assert all(reply["ok"] for reply in await calls)
    assert longest_s < 1


async def test_the_twin_keeps_the_budget():
    with scripted(stay_silent) as server:
        begin_s = time.monotonic()
        with pytest.raises(NoAnswer):
            await AsyncClient(port=server.port, timeout_s=0.3).broadcast(TEXT)
        assert time.monotonic() - begin_s < 0.3 + 1


async def test_a_cancelled_call_still_delivers_its_post():
    read, go_on = threading.Event(), threading.Event()

    def play(server, sock):
        frame = server.read(sock)
        read.set()
        go_on.wait()
        sock.sendall(json.dumps({"ok": True, "job": frame["key"]}).encode() + b"\n")

    with scripted(play) as server:
        call = asyncio.create_task(AsyncClient(port=server.port).broadcast(TEXT, key="order-17"))
        await asyncio.to_thread(read.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
    assert [frame["key"] for frame in server.frames] == ["order-17"]


async def test_a_cancelled_call_that_fails_is_spooled(tmp_path):
    kept, read = threading.Event(), threading.Event()

    def play(server, sock):
        server.read(sock)
        read.set()
        server.stopped.wait()

    with scripted(play) as server:
        client = AsyncClient(
            port=server.port, timeout_s=0.5, spool=tmp_path / "spool", alarm=lambda _: kept.set()
        )
        call = asyncio.create_task(client.broadcast(TEXT, key="order-17"))
        await asyncio.to_thread(read.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(kept.wait, 10)
    (file,) = (tmp_path / "spool").glob("*.json")
    assert json.loads(file.read_bytes())["key"] == "order-17"


def test_a_loop_that_ends_first_loses_nothing(tmp_path):
    async def leave():
        client = AsyncClient(
            port=free_port(), timeout_s=0.3, spool=tmp_path / "s", alarm=lambda _: kept.set()
        )
        call = asyncio.create_task(client.broadcast(TEXT))
        await asyncio.sleep(0)
        assert not call.done()

    kept = threading.Event()
    asyncio.run(leave())
    assert kept.wait(10)
    assert len(list((tmp_path / "s").glob("*.json"))) == 1
