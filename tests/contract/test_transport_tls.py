"""The port `Transport`, over all implementations: when a server is not trusted, or hands are not shaken."""

import ssl

import pytest
from bed.certificates import Authority, serving
from bed.raw_http import OK, Bodies, RawServer, answer, one_call, request, reset, said, saying
from yarl import URL

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


# -- byte by byte ------------------------------------------------------------------------------------------

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


class ByHand:
    """A server's TLS over plain streams: a test has each byte of it in hand."""

    def __init__(self, context, reader, writer):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._reader, self._writer = reader, writer

    async def shake_hands(self, piece_bytes=65536):
        while True:
            try:
                self.tls.do_handshake()
                return await self.send(self._outgoing.read(), piece_bytes)
            except ssl.SSLWantReadError:
                await self.send(self._outgoing.read(), piece_bytes)
                await self._more()

    async def request(self):
        """The next one, of which the body is {}."""
        text = b""
        while not text.endswith(b"\r\n\r\n{}"):
            try:
                text += self.tls.read()
            except ssl.SSLWantReadError:
                await self._more()

    async def _more(self):
        data = await self._reader.read(65536)
        if not data:
            raise ConnectionError
        self._incoming.write(data)

    def sealed(self, *texts):
        """A record each."""
        for text in texts:
            self.tls.write(text)
        return self._outgoing.read()

    def goodbye(self):
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    async def send(self, data, piece_bytes=65536):
        for at in range(0, len(data), piece_bytes):
            await said(self._writer, data[at : at + piece_bytes])


@VERSIONS
async def test_records_that_come_byte_by_byte(transport, trusted, version):
    context = serving(trusted.issue("server", "127.0.0.1"), version)

    async def handle(reader, writer):
        server = ByHand(context, reader, writer)
        await server.shake_hands(1)
        while True:
            await server.request()
            await server.send(server.sealed(answer()[:20], answer()[20:]), 1)

    async with RawServer(handle) as server:
        source = Bodies(*[b"{}"] * 3)
        await transport().make_calls(URL(f"https://127.0.0.1:{server.port}"), source)
        assert source.raws == [OK] * 3
        assert server.connections == 1


@VERSIONS
async def test_a_record_that_is_cut_or_changed_is_no_answer(transport, trusted, version, long_run):
    context = serving(trusted.issue("server", "127.0.0.1"), version)
    step = 1 if long_run else 17
    size, at = 2 * len(answer()), iter(range(0, 1_000_000, step))

    async def handle(reader, writer):
        server, cut = ByHand(context, reader, writer), next(at)
        await server.shake_hands()
        await server.request()
        record = bytearray(server.sealed(answer()))
        if cut < len(answer()):
            await server.send(record[:cut])
        else:
            record[cut - len(answer())] ^= 0x55
            await server.send(record)

    async with RawServer(handle) as server:
        source = Bodies(*[b"{}"] * (size // step))
        # Hands are shaken quickly, but a length that was changed is waited for.
        made = transport(answer_timeout_s=0.2)
        await made.make_calls(URL(f"https://127.0.0.1:{server.port}"), source)
    assert [bool(raw.unanswered) for raw in source.raws] == [True] * (size // step)


@VERSIONS
async def test_what_comes_in_the_same_breath_as_an_answer_is_none_to_the_next_call(trusted, version):
    """aiohttp may take it for one."""
    context = serving(trusted.issue("server", "127.0.0.1"), version)
    made, asked = open_transport(HttpSettings(transport="lean"), 1), []

    async def handle(reader, writer):
        server = ByHand(context, reader, writer)
        await server.shake_hands()
        await server.request()
        asked.append(len(asked))
        if len(asked) % 2:
            await server.send(server.sealed(answer(), answer(b'{"errcode":40003}')))
        else:
            await server.send(server.sealed(answer()) + server.goodbye())
        with pytest.raises(ConnectionError):
            await server.request()

    async with RawServer(handle) as server:
        source = Bodies(*[b"{}"] * 4)
        await made.make_calls(URL(f"https://127.0.0.1:{server.port}"), source)
        assert source.raws == [OK] * 4
        assert asked == [0, 1, 2, 3]
    await made.close()


# -- handshakes that take up a session ---------------------------------------------------------------------


@VERSIONS
async def test_handshakes_take_up_a_session_and_do_without_when_it_is_forgotten(trusted, tmp_path, version):
    """The certificate is looked at again then."""
    pair = trusted.issue("server", "127.0.0.1")
    nobodys = Authority(tmp_path, "other").issue("nobody", "127.0.0.1")
    contexts = {name: serving(pair, version) for name in ("first", "second")}
    contexts["third"] = serving(nobodys, version)
    taken_up, left = [], ["first", "first", "first", "second", "second", "third"]

    async def handle(reader, writer):
        await writer.start_tls(contexts[left.pop(0)])
        taken_up.append(writer.get_extra_info("ssl_object").session_reused)
        await request(reader)
        writer.write(answer(head=b"Connection: close\r\n"))

    made = open_transport(HttpSettings(transport="lean"), 1)
    async with RawServer(handle) as server:
        base = f"https://127.0.0.1:{server.port}"
        for _ in range(5):
            assert await one_call(made, base) == OK
        assert taken_up == [False, True, True, False, True]
        assert await one_call(made, base) == Answer(refused=UNTRUSTED)
    await made.close()
