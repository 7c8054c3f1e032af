"""The port `Transport`, over all implementations: many calls, and servers that fail between them.

Never is a call made twice, whatever fails: the servers count.
"""

import asyncio
import gzip
import random
from collections import Counter

import pytest
import structlog
import uvloop
from bed.certificates import serving
from bed.fakes import settle_down
from bed.raw_http import OK, Bodies, RawServer, answer, chunked, one_call, request, reset, saying
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transports import open_transport
from broadcastd.transports.endings import ENCODED, NO_ANSWER

# -- one after the other -----------------------------------------------------------------------------------


async def test_a_run_takes_one_connection_and_the_next_one_takes_it_again(kind, transport, context):
    async with RawServer(saying(answer()), context) as server:
        made = transport()
        for _ in range(3):
            source = Bodies(*[b"{}"] * 20)
            await made.make_calls(URL(server.base), source)
            assert source.raws == [OK] * 20
        assert server.connections == 1
        for _ in range(3):
            assert await made.exchange("POST", URL(server.base), b"{}", lambda: True, 100) == OK
        assert server.connections == {"aiohttp": 1, "lean": 2}[kind]  # single calls are aiohttp's
        assert made.connections[0] == 0


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (answer() + b"garbage", OK),
        (answer() + answer(b'{"errcode":1}'), OK),
        (answer(status=b"503 No") + answer(), Answer(refused="HTTP 503")),
        (answer() + b"HTTP/1.1 200 OK\r\nContent-Le", OK),
        (b"\r\n" + answer(), OK),
    ],
    ids=["garbage", "a second answer", "a refusal and an answer", "half an answer", "a line before it"],
)
async def test_what_follows_an_answer_is_no_answer_to_the_next_call(kind, transport, context, text, first):
    asked = []

    async def handle(reader, writer):
        while True:
            asked.append(await request(reader))
            writer.write(text)
            await writer.drain()

    async with RawServer(handle, context) as server:
        source = Bodies(b"1", b"2", b"3")
        await transport().make_calls(URL(server.base), source)
    assert len(asked) == 3
    if kind == "aiohttp" and text.endswith((b"garbage", b"-Le")):
        # It doubts the answer itself, or the next one.
        assert all(raw == first or raw.unanswered for raw in source.raws)
    else:
        assert source.raws == [first] * 3


async def test_calls_go_on_after_bad_ends(transport, context):
    """Each of them on a connection that works."""
    ends = [
        answer(),
        answer()[:-3],
        answer(status=b"503 No"),
        b"",
        answer(status=b"500 Odd"),
        b"garbage",
        answer(head=b"Connection: close\r\n"),
        answer(),
    ]

    async def handle(reader, writer):
        while True:
            text = ends[int(await request(reader))]
            writer.write(text)
            if not text.startswith(b"HTTP") or text.endswith(b'"}'[:-1]) or text == ends[1]:
                return

    async with RawServer(handle, context) as server:
        source = Bodies(*(b"%d" % number for number in range(len(ends))))
        await transport().make_calls(URL(server.base), source)
    kinds = [raw if isinstance(raw, bytes) else raw.refused or "unanswered" for raw in source.raws]
    odd = "unanswered"
    assert kinds == [OK, odd, "HTTP 503", odd, odd, odd, OK, OK]


async def test_idle_connections_that_the_server_has_closed_are_not_used(transport, context):
    async with RawServer(saying(answer(), calls=1), context) as server:
        made = transport()
        for round_no in range(30):
            ends = await asyncio.gather(*(one_call(made, server.base) for _ in range(3)))
            assert ends == [OK] * 3, round_no
            await server.left()


@pytest.mark.parametrize("heard", [False, True])
async def test_what_a_server_says_unasked_is_no_answer_to_the_next_call(kind, transport, context, heard):
    """Whether the loop has heard of it by then, or not."""
    writers = []

    async def handle(reader, writer):
        writers.append(writer)
        await saying(answer())(reader, writer)

    async with RawServer(handle, context) as server:
        made = transport()
        assert await one_call(made, server.base) == OK
        writers[0].write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        if kind == "lean" and heard:
            async with asyncio.timeout(5):
                await server.left()  # it is hung up on at once, not as an idle one
        elif heard:
            await settle_down(50)
        assert await one_call(made, server.base) == OK
        assert server.connections == 2


async def test_a_server_that_speaks_first_is_not_asked_twice(transport):
    async def handle(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()

    async with RawServer(handle) as server:
        end = await one_call(transport(), server.base)
        assert end.refused or end.unanswered
        assert server.connections == 1


async def test_a_half_closed_connection_is_not_used_again(transport):
    async def handle(reader, writer):
        await request(reader)
        writer.write(answer())
        writer.write_eof()
        await reader.read()

    async with RawServer(handle) as server:
        made = transport()
        assert await one_call(made, server.base) == OK
        await server.left()
        assert await one_call(made, server.base) == OK


async def test_a_server_that_compresses_unasked_is_left_to_aiohttp():
    """Its first answer is not read by `lean`; nor is what it says in the heads that both send."""
    asked = []

    async def handle(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.lower())
            await reader.readexactly(1)
            writer.write(answer(gzip.compress(OK), b"content-encoding:gzip\r\n"))

    async with RawServer(handle) as server:
        with structlog.testing.capture_logs() as logs:
            made, source = open_transport(HttpSettings(transport="lean"), 2), Bodies(b"1", b"2", b"3")
            await made.make_calls(URL(server.base), source)
        assert await made.exchange("POST", URL(server.base), b"4", lambda: True, 100) == OK
        await made.close()
    assert [(one["event"], one["host"]) for one in logs] == [("answers_encoded", "127.0.0.1")]
    assert source.raws[0].unanswered == ENCODED
    assert source.raws[1:] == [OK, OK]
    assert b"accept-encoding: identity\r\n" in asked[0]
    assert len(asked) == 4
    assert server.connections == 2


async def test_what_is_no_post_and_an_address_with_a_user_are_left_to_aiohttp():
    heads = []

    async def handle(reader, writer):
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            if heads[-1].startswith(b"POST"):
                await reader.readexactly(1)
            writer.write(answer())

    async with RawServer(handle) as server:
        made = open_transport(HttpSettings(transport="lean"), 2)
        assert await made.exchange("GET", URL(f"{server.base}/x"), None, lambda: True, 100) == OK
        with_user = URL(server.base).with_user("u").with_password("p")
        assert await made.exchange("POST", with_user, b"1", lambda: True, 100) == OK
        await made.close()
    assert heads[0].startswith(b"GET /x HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Basic dTpw\r\n" in heads[1]


async def test_idle_connections_are_closed_after_a_while(context, monkeypatch):
    monkeypatch.setattr("broadcastd.transports.lean.KEPT_S", 0.05)
    made = open_transport(HttpSettings(transport="lean"), 2)
    async with RawServer(saying(answer()), context) as server:
        assert await one_call(made, server.base) == OK
        await server.left()
        assert await one_call(made, server.base) == OK
        assert server.connections == 2
        await made.close()


# -- may it still be made ----------------------------------------------------------------------------------


async def test_a_call_that_may_not_be_made_when_its_connection_is_there_is_not_made(kind, transport, trusted):
    """It stops while the hands are being shaken; what the call was given serves the next one."""
    go, asked, context = [True], [], serving(trusted.issue("server", "127.0.0.1"))

    async def handle(reader, writer):
        go[0] = False
        await writer.start_tls(context)
        while True:
            asked.append(await request(reader))
            writer.write(answer())

    async with RawServer(handle) as server:
        made, url = transport(), URL(f"https://127.0.0.1:{server.port}")
        source = Bodies(b"1", b"2", go=lambda: go[0])
        await made.make_calls(url, source)
        assert source.ends == [(b"1", None)]
        assert await made.exchange("POST", url, b"3", lambda: go[0], 100) is None
        go[0] = True
        await made.make_calls(url, source)
        assert source.ends[1:] == [(b"2", OK)]
        assert await made.exchange("POST", url, b"4", lambda: go[0], 100) == OK
        assert asked == [b"2", b"4"]
        assert server.connections == {"aiohttp": 1, "lean": 2}[kind]  # single calls are aiohttp's


async def test_who_is_cancelled_leaves_nothing_behind(transport, context):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handle(reader, writer):
        await request(reader)
        arrived.set()
        await reader.read()
        gone.set()

    async with RawServer(handle, context) as server:
        made, source = transport(), Bodies(b"1", b"2")
        calls = asyncio.create_task(made.make_calls(URL(server.base), source))
        await arrived.wait()
        assert made.connections[0] == 1
        calls.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls
        await gone.wait()
        assert source.ends == []
        assert source.left == [b"2"]
        assert made.connections[0] == 0


async def test_what_is_under_way_when_it_is_closed_has_an_end(kind, context):
    arrived = asyncio.Event()

    async def handle(reader, writer):
        await request(reader)
        arrived.set()
        await reader.read()

    async with RawServer(handle, context) as server:
        made, source = open_transport(HttpSettings(transport=kind), 4), Bodies(b"1")
        calls = asyncio.create_task(made.make_calls(URL(server.base), source))
        await arrived.wait()
        await made.close()
        await calls
    assert [raw.unanswered is not None for raw in source.raws] == [True]


# -- many side by side -------------------------------------------------------------------------------------


async def echo(reader, writer):
    while True:
        writer.write(answer(b'{"errcode":0,"errmsg":"%s"}' % await request(reader)))


async def test_many_runs_side_by_side_each_get_their_own_answers(transport, context, long_run):
    each = 200 if long_run else 15
    sources = [Bodies(*(b"%d-%d" % (who, n) for n in range(each))) for who in range(60)]
    async with RawServer(echo, context) as server:
        made = transport(connections=60)
        await asyncio.gather(*(made.make_calls(URL(server.base), source) for source in sources))
        assert server.connections <= 60
    for who, source in enumerate(sources):
        assert source.ends == [
            (b"%d-%d" % (who, n), b'{"errcode":0,"errmsg":"%d-%d"}' % (who, n)) for n in range(each)
        ]


async def test_many_that_break_in_the_middle_are_all_told(transport, context):
    server_full, writers = asyncio.Event(), []

    async def handle(reader, writer):
        await request(reader)
        writers.append(writer)
        if len(writers) == 20:
            server_full.set()
        await reader.read()

    async with RawServer(handle, context) as server:
        made, sources = transport(connections=20), [Bodies(b"1") for _ in range(20)]
        calls = asyncio.gather(*(made.make_calls(URL(server.base), source) for source in sources))
        await server_full.wait()
        for writer in writers:
            reset(writer)
        await calls
    assert all(raw.unanswered.startswith("the connection broke") for source in sources for raw in source.raws)


class Unreliable:
    """Does something odd every other time. `seen`: how often each body has come whole."""

    def __init__(self, seed, odder):
        self._odder = odder
        self.seen: Counter[bytes] = Counter()
        self._random = random.Random(seed)

    async def handle(self, reader, writer):
        if self._random.random() < 0.05:
            return  # before anything was asked
        if self._random.random() < 0.05:
            await reader.read(20)
            reset(writer)
            return
        while True:
            body = await request(reader)
            self.seen[body] += 1
            if not await self._answer(reader, writer, b'{"errcode":0,"errmsg":"%s"}' % body):
                return

    async def _answer(self, reader, writer, said):
        """Whether the connection stays."""
        usual = answer(said)
        cut = self._random.randrange(len(usual))
        text, stays = self._random.choice(
            [
                *[(usual, True)] * 10,
                (usual, False),  # without notice
                (answer(said, b"Connection: close\r\n"), False),
                (usual.replace(b"1.1", b"1.0", 1), False),
                (chunked(said[:5], said[5:]), True),
                (b"HTTP/1.1 100 Continue\r\n\r\n" + usual, True),
                (b"HTTP/1.1 200 OK\r\n\r\n" + said, False),
                (usual[:cut], False),
                (usual[:cut], None),
                (b"garbage", True),
                (usual + b"garbage", True),
                (usual + self._odder, True),
                (answer(said, status=b"503 No"), True),
                (answer(said, status=b"500 Odd"), True),
                (answer(said, status=b"503 No")[:-5], False),
                (usual[:cut], "hang"),
            ]
        )
        pieces = [text] if self._random.random() < 0.7 else [text[:cut], text[cut:]]
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if stays == "hang":
            await reader.read()
        elif stays is None:
            reset(writer)
        return stays is True


async def fail_at_random(kind, seed, context, runs, calls):
    # aiohttp would take a second answer for the next call's, before the server has read that one.
    unreliable = Unreliable(seed, answer(b"{}") if kind == "lean" else b"")
    sources = [Bodies(*(b"%d-%d" % (who, n) for n in range(calls))) for who in range(runs)]
    async with RawServer(unreliable.handle, context) as server:
        settings = HttpSettings(transport=kind, answer_timeout_s=1, connect_timeout_s=10)
        made = open_transport(settings, runs)
        await asyncio.gather(*(made.make_calls(URL(server.base), source) for source in sources))
        await made.close()
    for source in sources:
        assert source.left == []
        for body, raw in source.ends:
            seen = unreliable.seen[body]
            assert seen <= 1, "made twice"
            if isinstance(raw, bytes):
                assert seen == 1
                assert raw == b'{"errcode":0,"errmsg":"%s"}' % body
            elif raw.refused:
                assert seen == 0 or raw.refused == "HTTP 503", raw
            else:
                assert raw.unanswered
    return [raw for source in sources for raw in source.raws]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_no_call_is_made_twice_whatever_fails(kind, context, loop, long_run):
    with asyncio.Runner(loop_factory=loop) as runner:
        for seed in range(8 if long_run else 1):
            raws = runner.run(fail_at_random(kind, seed, context, 20, 20))
            assert sum(isinstance(raw, bytes) for raw in raws) > 100
            assert any(isinstance(raw, Answer) and raw.unanswered == NO_ANSWER for raw in raws)
