"""How each kind of outage looks on the wire."""

import asyncio
import socket
import struct

from aiohttp import web

from broadcastd.sandbox.behaviour import AFTER_SEND, Kind
from broadcastd.sandbox.endpoints import REDIRECTED

_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\r\n"
_REASONS = {
    Kind.HTTP_412: "412 Precondition Failed",
    Kind.HTTP_429: "429 Too Many Requests",
    Kind.HTTP_500: "500 Internal Server Error",
    Kind.HTTP_502: "502 Bad Gateway",
    Kind.HTTP_503: "503 Service Unavailable",
    Kind.HTTP_504: "504 Gateway Time-out",
}
_HEADERS = {"Content-Type": "application/json; encoding=utf-8"}
_FILLING = b" " * (1 << 16)
WHOLE_ANSWER = b'{"errcode":0,"errmsg":"ok"}'


async def play(
    outage: str, request: web.BaseRequest, body: bytes = WHOLE_ANSWER, seconds: float = 0
) -> web.StreamResponse:
    """What the caller meets instead of an answer, or before and around the answer `body`.

    Where the connection is gone afterwards, the response returned goes nowhere; `hang` ends with the
    connection (its handler is cancelled then).
    """
    kind = Kind(outage.removesuffix(AFTER_SEND))
    if kind is Kind.HANG:
        await asyncio.get_running_loop().create_future()
    if kind in _STREAMED:
        return await _STREAMED[kind](request, body, seconds)
    if kind is Kind.RESET:
        _reset(request)
    elif kind is Kind.HALF:
        _answer_half(request)
    elif kind is Kind.GARBAGE:
        return web.Response(text=_PAGE.format("Welcome to the network"), content_type="text/html")
    elif kind is Kind.REDIRECT:
        return web.Response(status=302, headers={"Location": REDIRECTED + request.raw_path})
    elif kind in _REASONS:
        reason = _REASONS[kind]
        return web.Response(status=int(reason[:3]), text=_PAGE.format(reason), content_type="text/html")
    return web.Response(headers=_HEADERS)


async def _slow(_: web.BaseRequest, body: bytes, seconds: float) -> web.StreamResponse:
    await asyncio.sleep(seconds)
    return web.Response(body=body, headers=_HEADERS)


async def _wrong_type(_request: web.BaseRequest, body: bytes, _seconds: float) -> web.StreamResponse:
    return web.Response(body=body, content_type="text/html", charset="utf-8")


async def _trickle(request: web.BaseRequest, body: bytes, seconds: float) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    response.content_length = len(body)
    await response.prepare(request)
    for place in range(len(body)):
        await response.write(body[place : place + 1])
        await asyncio.sleep(seconds / len(body))
    return response


async def _endless(request: web.BaseRequest, body: bytes, _seconds: float) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    # JSON that is right so far: only its size gives it away.
    await response.write(body[:-2])
    while True:
        await response.write(_FILLING)


_STREAMED = {
    Kind.SLOW: _slow,
    Kind.WRONG_TYPE: _wrong_type,
    Kind.TRICKLE: _trickle,
    Kind.ENDLESS: _endless,
}


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    # With no time to linger the kernel sends RST instead of FIN.
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _answer_half(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\n"
        f"Content-Length: {len(WHOLE_ANSWER)}\r\n\r\n"
    )
    transport.write(head.encode() + WHOLE_ANSWER[: len(WHOLE_ANSWER) // 2])
    transport.close()
