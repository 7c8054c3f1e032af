"""One suite for the port `Transport`, over all implementations, against real servers that misbehave.

Each case is tried as one call (`exchange`) and as the first of a run of them (`make_calls`).
"""

import asyncio
import socket

import pytest
from bed.ports import free_port
from bed.raw_http import OK, Bodies, RawServer, answer, chunked, request, reset, said, saying
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.transport_ports import MAX_ANSWER_BYTES
from broadcastd.transports.endings import NO_ANSWER, NO_CONNECTION, TOO_LONG

BODY = '{"touser":"o1","text":{"content":"信"}}'.encode()


async def by_exchange(transport, base, most_bytes=MAX_ANSWER_BYTES):
    return await transport.exchange("POST", URL(f"{base}/send?t=1"), BODY, lambda: True, most_bytes)


async def by_a_run(transport, base):
    source = Bodies(BODY)
    await transport.make_calls(URL(f"{base}/send?t=1"), source)
    assert source.asked == {BODY: 1}
    return source.raws[0]


@pytest.fixture(params=[by_exchange, by_a_run])
def call(request):
    return request.param


@pytest.fixture
def ask(transport, call):
    """One call to a server that treats it so: how it has ended, and at how many connections."""

    async def ask(handle, **http):
        async with RawServer(handle) as server:
            end = await call(transport(**http), server.base)
            return end, server.connections

    return ask


# -- what is sent ------------------------------------------------------------------------------------------


async def test_a_request_is_whole_and_its_head_is_what_it_should_be(transport, call):
    heads, bodies = [], []

    async def handle(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        bodies.append(await reader.readexactly(len(BODY)))
        writer.write(answer(head=b"Set-Cookie: a=b\r\nConnection: close\r\n"))

    async with RawServer(handle) as server:
        made = transport()
        for _ in range(2):
            assert await call(made, server.base) == OK
    first, *lines = heads[0].decode().strip().split("\r\n")
    assert first == "POST /send?t=1 HTTP/1.1"
    fields = {name.lower(): value for name, value in (line.split(": ") for line in lines)}
    assert fields["host"] == f"127.0.0.1:{server.port}"
    assert fields["content-type"] == "application/json; charset=utf-8"
    assert fields["content-length"] == str(len(BODY))
    assert fields["user-agent"] == "broadcastd"
    assert b"ookie" not in heads[1]  # none is kept
    assert bodies == [BODY, BODY]


async def test_an_address_goes_out_as_it_is_written(transport):
    paths = []

    async def handle(reader, writer):
        paths.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode())
        writer.write(answer(head=b"Connection: close\r\n"))

    async with RawServer(handle) as server:
        made = transport()
        for token in ("tok", "a+b/c=&d 信", "x%2Fy\r\nHost: evil"):
            url = URL(f"{server.base}/信/send").with_query(access_token=token)
            await made.make_calls(url, Bodies(BODY))
            assert paths[-1] == url.raw_path_qs
            assert URL(f"http://h{paths[-1]}").query["access_token"] == token


async def test_a_user_in_the_address_goes_into_the_head(transport, call):
    heads = []

    async def handle(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(len(BODY))
        writer.write(answer(head=b"Connection: close\r\n"))

    async with RawServer(handle) as server:
        url = URL(server.base).with_user("u").with_password("p")
        assert await call(transport(), str(url)) == OK
    assert b"\r\nAuthorization: Basic dTpw\r\n" in heads[0]
    assert b"@" not in heads[0]


async def test_a_name_is_looked_up_and_both_families_are_tried(transport, call):
    async with RawServer(saying(answer())) as server:
        assert await call(transport(), f"http://localhost:{server.port}") == OK


async def test_a_long_body_arrives_whole(transport, context):
    body = b'{"touser":"' + b"x" * 300_000 + b'"}'
    got = []

    async def handle(reader, writer):
        got.append(await request(reader))
        writer.write(answer())

    async with RawServer(handle, context) as server:
        source = Bodies(body)
        await transport().make_calls(URL(server.base), source)
    assert source.raws == [OK]
    assert got == [body]


# -- answered ----------------------------------------------------------------------------------------------

WHOLE = {
    "usual": [answer()],
    "in two": [answer()[:-27], OK],
    "byte by byte": [answer()[at : at + 1] for at in range(len(answer()))],
    "chunks": [chunked(OK[:4], OK[4:])],
    "chunks in pieces": [chunked(OK[:4], OK[4:])[at : at + 7] for at in range(0, 99, 7)],
    "chunks with extensions": [chunked(OK, extension=b";a=b;c")],
    "chunks with a trailer": [chunked(OK, trailer=b"X-Sum: 1\r\n")],
    "the last": [answer(head=b"Connection: close\r\n")],
    "HTTP/1.0": [answer().replace(b"1.1", b"1.0", 1)],
    "HTTP/1.0 that stays": [answer(head=b"Connection: keep-alive\r\n").replace(b"1.1", b"1.0", 1)],
    "interim": [b"HTTP/1.1 100 Continue\r\n\r\n" + answer()],
    "interim, apart": [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n",
        answer(),
    ],
    "odd head": [answer(head=b"x:\r\nX-Empty:   \r\nServer: \xff\xfe\r\n").replace(b"200 OK", b"200 ", 1)],
    "long head": [answer(head=b"X: " + b"x" * 7000 + b"\r\n")],
    "no word for it": [answer().replace(b" OK", b" ", 1)],
    "empty": [answer(b"")],
    "no JSON": [answer(b"<html>")],
    "a list": [answer(b"[1]")],
    "identity": [answer(b"<html>", b"Content-Encoding: identity\r\n")],
}


@pytest.mark.parametrize("pieces", WHOLE.values(), ids=WHOLE)
async def test_whole_answers(ask, pieces):
    body = OK
    for other in (b"<html>", b"[1]"):
        body = other if pieces[-1].endswith(other) else body
    body = b"" if pieces == WHOLE["empty"] else body
    assert await ask(saying(*pieces)) == (body, 1)


async def test_the_same_answer_again_in_all_sorts_of_pieces(transport, context):
    """None of them is mixed up with what was there before it."""
    usual, at = answer(), iter(range(1_000))
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    kinds = [
        [usual],
        [usual[:-1], usual[-1:]],
        [usual],
        [interim, usual],
        [interim + usual],
        [b"\r\n" + usual],
        [usual[:17], usual[17:]],
        [chunked(OK)],
        [usual],
    ]

    async def handle(reader, writer):
        while True:
            await request(reader)
            for piece in kinds[next(at) % len(kinds)]:
                await said(writer, piece)

    async with RawServer(handle, context) as server:
        source = Bodies(*[b"{}"] * 4 * len(kinds))
        await transport().make_calls(URL(server.base), source)
        assert source.raws == [OK] * 4 * len(kinds)
        assert server.connections == 1


@pytest.mark.parametrize("text", [answer(), chunked(OK[:4], OK[4:])], ids=["length", "chunks"])
async def test_an_answer_cut_at_each_of_its_bytes_is_none(transport, text):
    left = iter(range(len(text) + 1))

    async def handle(reader, writer):
        await request(reader)
        writer.write(text[: next(left)])

    async with RawServer(handle) as server:
        source = Bodies(*[b"{}"] * (len(text) + 1))
        await transport().make_calls(URL(server.base), source)
    assert [isinstance(raw, bytes) for raw in source.raws] == [False] * len(text) + [True]
    assert all(raw.unanswered for raw in source.raws[:-1])


async def test_an_answer_as_long_as_its_connection(ask):
    for version in (b"1.0", b"1.1"):
        head = b"HTTP/" + version + b" 200 OK\r\nServer: old\r\n\r\n"
        assert await ask(saying(head + OK[:5], OK[5:], calls=1)) == (OK, 1)


async def test_every_answer_has_its_own_call(transport):
    """Whether its connection stays, closes with notice, or an answer is odd."""
    answers = [
        b"".join(pieces)
        for name, pieces in WHOLE.items()
        if name not in {"empty", "no JSON", "a list", "identity"}
    ]

    async def handle(reader, writer):
        while True:
            number = int(await request(reader))
            said = b'{"errcode":%d,"errmsg":"ok"}' % (number % 10)
            writer.write(answers[number % len(answers)].replace(OK, said).replace(OK[:4], said[:4]))
            await writer.drain()

    async with RawServer(handle) as server:
        made, sources = transport(), [Bodies(*(b"%d" % (n + start) for n in range(40))) for start in (0, 7)]
        await asyncio.gather(*(made.make_calls(URL(server.base), source) for source in sources))
    for source in sources:
        assert len(source.ends) == 40
        assert all(b'"errcode":%d,' % (int(body) % 10) in raw or raw == OK for body, raw in source.ends)


# -- refused: certainly not sent ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [412, 429, 503])
async def test_refusing_statuses(ask, status):
    text = answer(status=b"%d No" % status)
    assert await ask(saying(text)) == (Answer(refused=f"HTTP {status}"), 1)
    # Its head says it, whatever becomes of the rest.
    assert await ask(saying(text[:-9], calls=1)) == (Answer(refused=f"HTTP {status}"), 1)


async def test_nobody_listens(transport, call):
    end = await call(transport(), f"http://127.0.0.1:{free_port()}")
    assert end.refused.startswith("no connection")


async def test_a_run_goes_on_until_the_source_has_had_enough_of_refusals(transport):
    source = Bodies(b"1", b"2", b"3")
    await transport().make_calls(URL(f"http://127.0.0.1:{free_port()}"), source)
    assert [end.refused is not None for end in source.raws] == [True] * 3


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".invalid"])
async def test_a_host_that_has_no_address(transport, call, host):
    end = await call(transport(), f"http://{host}")
    assert end.refused.startswith("no connection")


async def test_a_host_that_takes_nobody_in(transport, call):
    """Its queue is full: the handshake of TCP hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        first = [socket.socket() for _ in range(3)]
        for one in first:
            one.setblocking(False)
            one.connect_ex(address)
        end = await call(transport(connect_timeout_s=0.1), f"http://127.0.0.1:{address[1]}")
        for one in first:
            one.close()
    assert end == Answer(refused=NO_CONNECTION)


# -- unanswered: may have been sent ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [101, 201, 204, 301, 302, 304, 307, 308, 400, 403, 404, 500, 501, 502, 504]
)
async def test_other_statuses(ask, status):
    text = answer(b"", b"Location: /elsewhere\r\n", b"%d Odd" % status)
    assert await ask(saying(text)) == (Answer(unanswered=f"HTTP {status}"), 1)


HALF = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no body": b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n",
    "half a body": answer()[:-3],
    "half a chunk": chunked(OK)[:-9],
    "chunks without an end": chunked(OK)[:-2],
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "garbage first": b"garbage\r\n" + answer(),
    "bad gzip": answer(b"abcde", b"Content-Encoding: gzip\r\n"),
    "huge head": answer(head=b"X: " + b"x" * 100_000 + b"\r\n"),
    "huge head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000,
    "two lengths": answer(head=b"Content-Length: 5\r\n"),
    "a length that is none": answer().replace(b": 27", b": x7"),
    "a size that is none": chunked(OK).replace(b"1b\r\n", b"zz\r\n"),
    "an interim answer only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "a version that is none": answer().replace(b"1.1", b"9.x", 1),
}


@pytest.mark.parametrize("text", HALF.values(), ids=HALF)
async def test_a_half_answer_may_have_been_sent(ask, text):
    end, connections = await ask(saying(text, calls=1))
    assert end.unanswered
    assert end.refused is None
    assert connections == 1  # asked once: never again behind our back


async def test_a_reset_after_the_request_was_read(ask):
    async def handle(reader, writer):
        await request(reader)
        reset(writer)

    end, connections = await ask(handle)
    assert end.unanswered.startswith("the connection broke")
    assert connections == 1


@pytest.mark.parametrize("text", [answer()[:-9], b"", chunked(OK)[:-9]], ids=["half", "nothing", "chunk"])
async def test_an_answer_that_does_not_come_is_not_waited_for(ask, text):
    async def handle(reader, writer):
        await request(reader)
        writer.write(text)
        await reader.read()

    assert await ask(handle, answer_timeout_s=0.05) == (Answer(unanswered=NO_ANSWER), 1)


async def test_an_answer_that_drips_is_not_waited_for(transport, call):
    async def handle(reader, writer):
        await request(reader)
        while True:
            writer.write(b"X: y\r\n" if dripped else b"HTTP/1.1 200 OK\r\n")
            dripped.append(1)
            await writer.drain()
            await asyncio.sleep(0.02)

    dripped = []
    async with RawServer(handle) as server:
        end = await call(transport(connect_timeout_s=0.1, answer_timeout_s=0.1), server.base)
    assert end == Answer(unanswered=NO_ANSWER)


HUGE = b'{"errcode":0,"errmsg":"' + b"x" * 20 * MAX_ANSWER_BYTES + b'"}'


HUGE_ANSWERS = {
    "length": answer(HUGE),
    "chunks": chunked(*[HUGE[:1000]] * 1200),
    "no length": b"HTTP/1.1 200 OK\r\n\r\n" + HUGE,
}


@pytest.mark.parametrize("text", HUGE_ANSWERS.values(), ids=HUGE_ANSWERS)
async def test_a_huge_answer_is_not_read(ask, text):
    assert await ask(saying(text, calls=1)) == (Answer(unanswered=TOO_LONG), 1)


async def test_what_is_just_short_enough_is_read(transport):
    async with RawServer(saying(answer(b"[" + b" " * 98 + b"]"))) as server:
        made = transport()
        assert await by_exchange(made, server.base, 100) == b"[" + b" " * 98 + b"]"
        assert await by_exchange(made, server.base, 99) == Answer(unanswered=TOO_LONG)


def _serve_twice(listening, accepted):
    for _ in range(2):
        there, _ = listening.accept()
        accepted.append(there)
        there.recv(65536)
        there.sendall(answer())


async def test_a_connection_that_was_closed_a_moment_ago_is_not_written_into(transport, call):
    """Before the loop has heard of it."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)  # of a test that fails: its thread must end
        serving = asyncio.get_running_loop().run_in_executor(None, _serve_twice, listening, accepted)
        made = transport()
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert await call(made, base) == OK
        accepted[0].close()
        assert await call(made, base) == OK
        await serving
        accepted[1].close()
