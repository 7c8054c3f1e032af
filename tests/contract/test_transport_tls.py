"""The port `Transport`, over all implementations: when a server is not trusted, or hands are not shaken."""

import pytest
from bed.certificates import Authority, serving
from bed.raw_http import OK, RawServer, answer, one_call, request, reset, saying

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transports import open_transport
from broadcastd.transports.endings import NO_CONNECTION, UNTRUSTED


@pytest.mark.parametrize("which", ["nobody's", "another name", "expired"])
async def test_certificates_that_are_not_trusted(transport, trusted, tmp_path, which):
    pair = {
        "nobody's": lambda: Authority(tmp_path, "other").issue("nobody", "127.0.0.1"),
        "another name": lambda: trusted.issue("other", "other.example.com", "127.0.0.2"),
        "expired": lambda: trusted.issue("expired", "127.0.0.1", days=-1),
    }[which]()
    asked = []

    async def handle(reader, writer):
        asked.append(await reader.read())

    async with RawServer(handle, serving(pair)) as server:
        assert await one_call(transport(), server.base) == Answer(refused=UNTRUSTED)
    assert b"".join(asked) == b""


async def test_the_name_is_looked_for_in_the_certificate(transport, trusted):
    async with RawServer(saying(answer()), serving(trusted.issue("named", "localhost"))) as server:
        made = transport()
        assert await one_call(made, f"https://localhost:{server.port}") == OK
        assert await one_call(made, server.base) == Answer(refused=UNTRUSTED)


async def hangs(reader, writer):
    await reader.read()


async def hangs_up(reader, writer):
    await reader.read(10)


async def resets(reader, writer):
    await reader.read(10)
    reset(writer)


async def speaks_http(reader, writer):
    writer.write(answer())
    await reader.read()


@pytest.mark.parametrize("handle", [hangs, hangs_up, resets, speaks_http])
async def test_hands_that_are_not_shaken(transport, handle):
    async with RawServer(handle) as server:
        end = await one_call(transport(connect_timeout_s=0.2), f"https://127.0.0.1:{server.port}")
    assert end.refused.startswith("no connection")
    assert (end.refused == NO_CONNECTION) == (handle is hangs)
    assert server.connections == 1


async def test_an_answer_as_long_as_its_connection_needs_a_goodbye(trusted):
    """aiohttp takes a reset for the end."""
    made = open_transport(HttpSettings(transport="lean"), 1)
    context = serving(trusted.issue("server", "127.0.0.1"))

    async def handle(reader, writer):
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + OK)
        await writer.drain()
        reset(writer)

    async with RawServer(handle, context) as server:
        assert (await one_call(made, server.base)).unanswered
    await made.close()
