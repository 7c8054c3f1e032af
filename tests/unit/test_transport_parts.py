"""Parts of the `lean` transport that need no network."""

import asyncio
import socket
import ssl

import pytest
from yarl import URL

from broadcastd.transports.dialing import ADDRESSES_S, Host
from broadcastd.transports.endings import NO_CONNECTION, UNTRUSTED, no_connection
from broadcastd.transports.heads import Heads


def test_a_head_is_rendered_once_a_length():
    heads = Heads(URL("https://[::1]:8443/信?access_token=a%2Bb"))
    assert heads[7] == (
        b"POST /%E4%BF%A1?access_token=a%2Bb HTTP/1.1\r\nHost: [::1]:8443\r\n"
        b"Content-Type: application/json; charset=utf-8\r\nUser-Agent: broadcastd\r\n"
        b"Accept-Encoding: identity\r\nContent-Length: 7\r\n\r\n"
    )
    assert heads[7] is heads[7]
    assert heads[120].endswith(b"Content-Length: 120\r\n\r\n")


@pytest.mark.parametrize(
    ("address", "host"),
    [("http://h", b"h"), ("http://h:80", b"h"), ("https://h:80", b"h:80"), ("https://信.cn", b"xn--vuq.cn")],
)
def test_the_host_in_a_head(address, host):
    assert b"\r\nHost: " + host + b"\r\n" in Heads(URL(address))[1]


class Names:
    """A loop whose look-ups are answered by the test."""

    def __init__(self, monkeypatch):
        self.asked = 0
        self.now_s = 0.0
        self.answer = asyncio.Event()
        self.trouble = None
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", self._look_up)
        monkeypatch.setattr(loop, "time", lambda: self.now_s)

    async def _look_up(self, name, port, **_):
        self.asked += 1
        await self.answer.wait()
        if self.trouble:
            raise self.trouble
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]


async def test_a_host_is_looked_up_once_for_all_and_again_after_a_while(monkeypatch):
    names, host = Names(monkeypatch), Host("h", 1)
    waiting = [asyncio.create_task(host._addresses()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the others still get their answer
    names.answer.set()
    found = await asyncio.gather(*waiting[1:])
    assert all(one == found[0] for one in found)
    assert names.asked == 1
    names.now_s = ADDRESSES_S
    await host._addresses()
    assert names.asked == 1
    names.now_s += 1
    await host._addresses()
    assert names.asked == 2
    await host.close()


async def test_a_look_up_that_failed_is_tried_again_at_once(monkeypatch):
    names, host = Names(monkeypatch), Host("h", 1)
    names.answer.set()
    names.trouble = socket.gaierror(-2, "Name or service not known")
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await host._addresses()
    names.trouble = None
    assert len(await host._addresses()) == 2
    assert names.asked == 3
    await host.close()


async def test_a_look_up_that_nobody_waits_for_ends_with_its_host(monkeypatch):
    names, host = Names(monkeypatch), Host("h", 1)
    waiting = asyncio.create_task(host._addresses())
    await asyncio.sleep(0)
    waiting.cancel()
    await host.close()
    assert not names.answer.is_set()
    assert len(asyncio.all_tasks()) <= 2


def test_why_there_is_no_connection():
    assert no_connection(ssl.SSLCertVerificationError(1, "x")).refused == UNTRUSTED
    assert no_connection(TimeoutError()).refused == NO_CONNECTION
    assert no_connection(OSError(111, "Connection refused")).refused == "no connection: Connection refused"
    assert no_connection(UnicodeError("label too long")).refused == "no connection: label too long"
