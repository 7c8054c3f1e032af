"""`python -m bench.bare KIND URL RECIPIENTS IN_FLIGHT`: the same calls from a loop, no ledger, no retries.

naive     aiohttp as its examples show it: `json=`, `json()`, its own connector, asyncio's loop
tuned     a body serialised beforehand, `read()` with orjson, uvloop, IN_FLIGHT coroutines and no other limit
ceiling   an asyncio protocol with httptools, requests rendered whole: what Python can do at all
"""

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import uvloop

from bench.processes import cpu_s, peak_mb

PATH = "/cgi-bin/message/custom/send?access_token=TOKEN"
TEXT = {"content": "measured 點擊下方“信息查詢”查看更多求購信息。回復0取消接收信息,回復1重新接收信息"}
WARM_UP = 500
"""Messages before the clock runs, as the daemon has them too: connections are open then."""

Numbers = Iterator[int]
Send = Callable[[Numbers], Coroutine[Any, Any, None]]
"""Sends to each of these numbers."""


def message(number: int) -> dict[str, Any]:
    return {"touser": f"o{number:027d}", "msgtype": "text", "text": TEXT}


async def naive(api: str, in_flight: int, measured: Callable[[Send], Coroutine[Any, Any, None]]) -> None:
    async def worker(session: aiohttp.ClientSession, numbers: Numbers) -> None:
        for number in numbers:
            async with session.post(api + PATH, json=message(number)) as answer:
                assert (await answer.json())["errcode"] == 0

    async with aiohttp.ClientSession() as session:

        async def send(numbers: Numbers) -> None:
            await asyncio.gather(*(worker(session, numbers) for _ in range(in_flight)))

        await measured(send)


async def tuned(api: str, in_flight: int, measured: Callable[[Send], Coroutine[Any, Any, None]]) -> None:
    url = api + PATH

    async def worker(session: aiohttp.ClientSession, numbers: Numbers) -> None:
        for number in numbers:
            async with session.post(url, data=orjson.dumps(message(number))) as answer:
                assert orjson.loads(await answer.read())["errcode"] == 0

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send(numbers: Numbers) -> None:
            await asyncio.gather(*(worker(session, numbers) for _ in range(in_flight)))

        await measured(send)


class Exchange(asyncio.Protocol):
    """One connection that asks for one number after the other."""

    def __init__(self, head: bytes) -> None:
        import httptools

        self._head = head
        self._parser: Any = httptools.HttpResponseParser(self)
        self._tail = b"," + orjson.dumps({"msgtype": "text", "text": TEXT})[1:]
        self._body = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send_all(self, numbers: Numbers) -> "asyncio.Future[None]":
        self._numbers, self._done = numbers, asyncio.get_running_loop().create_future()
        self._next()
        return self._done

    def _next(self) -> None:
        number = next(self._numbers, None)
        if number is None:
            self._done.set_result(None)
            return
        body = b'{"touser":"o%027d"' % number + self._tail
        self._transport.write(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert orjson.loads(self._body)["errcode"] == 0
        self._body = b""
        self._next()


async def ceiling(api: str, in_flight: int, measured: Callable[[Send], Coroutine[Any, Any, None]]) -> None:
    there = urlsplit(api)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {there.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()
    context = ssl.create_default_context() if there.scheme == "https" else None
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: Exchange(head), "127.0.0.1", there.port or 80, ssl=context)
        for _ in range(in_flight)
    ]

    async def send(numbers: Numbers) -> None:
        await asyncio.gather(*(exchange.send_all(numbers) for _, exchange in pairs))

    await measured(send)
    for transport, _ in pairs:
        transport.close()


async def run(kind: str, api: str, recipients: int, in_flight: int) -> dict[str, float]:
    figures: dict[str, float] = {}

    async def measured(send: Send) -> None:
        await send(iter(range(WARM_UP)))
        before_s, began = cpu_s(os.getpid()), time.monotonic()
        await send(iter(range(1, recipients + 1)))
        wall_s, used_s = time.monotonic() - began, cpu_s(os.getpid()) - before_s
        figures.update(per_s=recipients / wall_s, sent_s=wall_s, cpu_us=used_s / recipients * 1e6)

    await {"naive": naive, "tuned": tuned, "ceiling": ceiling}[kind](api, in_flight, measured)
    return {**figures, "peak_mb": peak_mb(), "in_flight": in_flight}


def main() -> None:
    kind, api, recipients, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    start = asyncio.run if kind == "naive" else uvloop.run
    print(json.dumps(start(run(kind, api, recipients, in_flight))))


if __name__ == "__main__":
    main()
