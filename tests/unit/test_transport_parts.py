"""Parts of the transports that need no network."""

import ssl

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError
from httptools import HttpParserError
from yarl import URL

from broadcastd.transports.endings import NO_CONNECTION, UNTRUSTED, broken, no_connection
from broadcastd.transports.heads import HAS_ENCODING, HAS_LENGTH, Heads


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


def test_why_there_is_no_connection():
    assert no_connection(ssl.SSLCertVerificationError(1, "x")).refused == UNTRUSTED
    assert no_connection(TimeoutError()).refused == NO_CONNECTION
    assert no_connection(OSError(111, "Connection refused")).refused == "no connection: Connection refused"
    assert no_connection(UnicodeError("label too long")).refused == "no connection: label too long"
    assert no_connection(ConnectionError()).refused == "no connection: the server hung up"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (aiohttp.ServerDisconnectedError(), "the server hung up"),
        (ConnectionError("the server hung up"), "the server hung up"),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "Connection reset by peer"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (aiohttp.ClientPayloadError("Response payload is not completed: <x>"), "half an answer"),
        (HttpProcessingError(message="Bad status line"), "what came is no HTTP"),
        (HttpParserError("Expected HTTP/"), "what came is no HTTP"),
    ],
)
def test_why_a_connection_broke_is_said_alike_whoever_made_the_call(error, why):
    assert broken(error).unanswered == f"the connection broke: {why}"


@pytest.mark.parametrize(
    ("line", "has_length", "is_encoded"),
    [
        (b"Content-Length: 27\r\n", True, False),
        (b"transfer-encoding :chunked\r\n", True, False),
        (b"X-Content-Length: 27\r\n", False, False),
        (b"CONTENT-ENCODING:gzip\r\n", False, True),
        (b"Content-Encoding: identity\r\n", False, False),
        (b"Content-Encoding: identity, gzip\r\n", False, True),
    ],
)
def test_what_the_head_of_an_answer_says_of_its_body(line, has_length, is_encoded):
    text = b"HTTP/1.1 200 OK\r\nServer: x\r\n" + line + b"\r\n"
    assert bool(HAS_LENGTH.search(text)) == has_length
    assert bool(HAS_ENCODING.search(text)) == is_encoded
