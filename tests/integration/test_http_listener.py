"""The HTTP port's own bounds, on real sockets: slow clients, crowds, TLS, a socket that is handed in."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import structlog
from bed.certificates import Authority, Pair

from broadcastd.errors import CannotListenError, SettingsError
from broadcastd.http_settings import HttpPortSettings
from broadcastd.ops import listener as listener_module
from broadcastd.ops.answers import Answer, json_answer
from broadcastd.ops.listener import Listener
from broadcastd.ops.routes import Asked, Routes
from broadcastd.ops.sources import Requests

HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\n"


class Echo:
    """Answers with how long the body was, or as it is told."""

    def __init__(self) -> None:
        self.bug: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.answered = 0

    async def answer(self, asked: Asked) -> Answer:
        await self.gate.wait()
        if self.bug is not None:
            raise self.bug
        body = await asked.body()
        self.answered += 1
        return json_answer(200, {"length": None if body is None else len(body), "peer": asked.peer})

    def route(self, path: str) -> str:
        return path


class Port:
    """A running listener."""

    def __init__(self, echo: Echo, listener: Listener) -> None:
        self.echo = echo
        self.port = listener.port

    async def raw(self, *pieces: bytes, pause_s: float = 0.0) -> bytes:
        """Bytes as they are; what comes back until it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def running(ready_made: Sequence[socket.socket] = (), **settings: Any) -> AsyncIterator[Port]:
    echo = Echo()
    listener = Listener(HttpPortSettings(port=0, **settings), cast(Routes, echo), Requests())
    async with listener.listening(ready_made):
        yield Port(echo, listener)


async def test_a_head_that_drips_is_cut():
    async with running(idle_timeout_s=0.3) as port:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        drips = [bytes([one]) for one in HEAD * 3]
        assert await port.raw(*drips, pause_s=0.05) == b""
        assert loop.time() - began_s < len(drips) * 0.05
        assert port.echo.answered == 0


async def test_who_says_nothing_is_hung_up_on():
    async with running(idle_timeout_s=0.2) as port:
        assert await port.raw(b"") == b""
        assert await port.raw(HEAD) == b""


async def test_a_body_that_drips_is_cut(monkeypatch):
    monkeypatch.setattr(listener_module, "ANSWER_S", 0.3)
    async with running() as port:
        answer = await port.raw(HEAD + b"Content-Length: 9\r\n\r\n1")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer


async def test_a_bug_is_an_answer(monkeypatch):
    async with running() as port:
        port.echo.bug = RuntimeError("s3cret")
        answer = await port.raw(HEAD + b"Content-Length: 0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"s3cret" not in answer


@pytest.mark.parametrize(
    "bad",
    [
        HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(5_000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b'{"content":"x"}\n',
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_request_is_refused(bad):
    async with running(idle_timeout_s=1) as port:
        answer = await port.raw(bad)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert port.echo.answered == 0
        assert b"aiohttp" not in answer
        assert b"evil.example" not in answer
        assert len(answer) < 1_000
        assert (await port.raw(HEAD + b"Content-Length: 2\r\n\r\n{}")).startswith(b"HTTP/1.1 200 ")


async def test_one_request_a_connection():
    """What is sent after it is not looked at, however much it is."""
    async with running() as port:
        one = HEAD + b"Content-Length: 2\r\n\r\n{}"
        answer = await port.raw(one * 2_000)
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert port.echo.answered == 1
        assert b"Connection: close" in answer


async def test_a_long_body_is_refused_without_being_read():
    async with running(max_body_bytes=1024) as port:
        for bad in (
            b"Content-Length: 99999999999\r\n\r\n",
            b"Content-Length: 1025\r\n\r\n" + b"x" * 1025,
            b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n0\r\n\r\n",
        ):
            answer = await port.raw(HEAD + bad)
            assert b'"length":null' in answer
        assert b'"length":1024' in await port.raw(HEAD + b"Content-Length: 1024\r\n\r\n" + b"x" * 1024)


async def test_who_waits_to_be_told_to_go_on_is_told():
    async with running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_in_a_crowd_who_has_been_idle_longest_gives_way():
    async with running(max_connections=3) as port:
        inside = [await asyncio.open_connection("127.0.0.1", port.port) for _ in range(3)]
        assert (await port.raw(HEAD + b"Content-Length: 0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await hung_up(inside[0][0])
        for reader, writer in inside[1:]:
            writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        for _, writer in inside:
            writer.close()


async def hung_up(reader):
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_sockets_that_are_handed_in():
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.2", 0)) as second:
        for one in (first, second):
            one.setblocking(False)
        async with running([first, second]) as port:
            assert port.port == first.getsockname()[1]
            for one in (first, second):
                reader, writer = await asyncio.open_connection(*one.getsockname())
                writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                writer.close()


async def test_a_busy_port_is_named_with_its_holder():
    async with running() as port:
        settings = HttpPortSettings(port=port.port)
        with pytest.raises(
            CannotListenError, match=rf"127\.0\.0\.1:{port.port} is in use by .*pid.*http\.port"
        ):
            async with Listener(settings, cast(Routes, Echo()), Requests()).listening():
                pass
    with pytest.raises(CannotListenError, match=r"no address of this machine \(http\.host\)"):
        async with running(host="192.0.2.1"):
            pass


# -- TLS ---------------------------------------------------------------------------------------------------


def _trusting(authority: Authority, shown: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


async def _status(port: Port, tls: ssl.SSLContext) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"https://127.0.0.1:{port.port}/jobs", ssl=tls) as answer,
    ):
        return answer.status


async def test_tls_with_and_without_the_right_certificates(tmp_path: Path):
    """Each wrong one is refused, and the port goes on."""
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "another")
    server = ours.issue("server", "127.0.0.1")
    files = {"tls_cert": str(server.cert), "tls_key": str(server.key)}
    async with running(**files) as port:
        assert await _status(port, _trusting(ours)) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _status(port, _trusting(theirs))
        assert await port.raw(HEAD + b"Content-Length: 0\r\n\r\n") == b""
        old = _trusting(ours)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await _status(port, old) == 200
    async with running(**files, tls_client_ca=str(ours.ca)) as port:
        assert await _status(port, _trusting(ours, ours.issue("client"))) == 200
        expired = ours.issue("expired", days=-1)
        stranger = theirs.issue("stranger")
        for shown in (None, expired, stranger):
            with pytest.raises(aiohttp.ClientError):
                await _status(port, _trusting(ours, shown))
        assert port.echo.answered == 1
        assert await _status(port, _trusting(ours, ours.issue("client"))) == 200


async def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path):
    ours = Authority(tmp_path)
    server, another = ours.issue("server", "127.0.0.1"), ours.issue("another-server")
    for key in (another.key, tmp_path / "missing.key"):
        with pytest.raises(SettingsError, match=r"http\.tls_"):
            async with running(tls_cert=str(server.cert), tls_key=str(key)):
                pass


async def test_only_networks_that_are_allowed():
    async with running(allow=("10.0.0.0/8", "127.0.0.2")) as port:
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                assert await port.raw(HEAD + b"Content-Length: 0\r\n\r\n") == b""
        assert [line["address"] for line in logs if line["event"] == "address_refused"] == ["127.0.0.1"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port, local_addr=("127.0.0.2", 0))
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
