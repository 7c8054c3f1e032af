"""What the `lean` transport promises beyond its port: who has not been asked has not answered."""

import asyncio
import socket

import uvloop
from bed.raw_http import OK, Bodies, RawServer, answer, one_call, request, said
from yarl import URL

from broadcastd.settings import HttpSettings
from broadcastd.transports import open_transport


def _serve_once(listening):
    there, _ = listening.accept()
    there.recv(65536)
    there.sendall(answer())
    return there


class Interrupted(Bodies):
    """The server says something when the connection has been looked at, right before the call is made."""

    def __init__(self, there, *bodies):
        super().__init__(*bodies)
        self._there = there

    def still(self):
        self._there.sendall(answer(b'{"errcode":0,"errmsg":"unasked"}'))
        return True


async def interrupt():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        serving = asyncio.get_running_loop().run_in_executor(None, _serve_once, listening)
        made = open_transport(HttpSettings(transport="lean", answer_timeout_s=1), 1)
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert await one_call(made, base) == OK
        there = await serving
        source = Interrupted(there, b"2")
        await made.make_calls(URL(base), source)
        assert source.raws[0].refused.startswith("no connection")
        there.settimeout(10)
        assert there.recv(65536) == b""  # it was not asked
        there.close()
        await made.close()


def test_what_is_said_before_a_request_is_written_is_no_answer_to_it():
    """uvloop reads once more before it writes what is to be written."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(interrupt())


async def test_an_answer_within_an_answer_is_a_body():
    """It is what the server says usually, and comes in a piece of its own."""
    usual = answer()

    async def handle(reader, writer):
        await request(reader)
        writer.write(usual)
        await request(reader)
        whole = answer(usual)
        for piece in (whole[: -len(usual)], usual):
            await said(writer, piece)
        await request(reader)
        writer.write(usual)

    async with RawServer(handle) as server:
        made, source = open_transport(HttpSettings(transport="lean"), 1), Bodies(b"1", b"2", b"3")
        await made.make_calls(URL(server.base), source)
        assert source.raws == [OK, usual, OK]
        await made.close()
