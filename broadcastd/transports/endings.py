"""How a call ends without WeChat's own word, in words that all transports share."""

import ssl

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from httptools import HttpParserError, HttpParserUpgrade

from broadcastd.outcomes import Answer

UNTRUSTED = "the server's certificate is not trusted"
NO_CONNECTION = "no connection in time"
NO_ANSWER = "no answer in time"
ENCODED = "an answer in an encoding that nobody asked for"
TOO_LONG = "an answer far too long for WeChat"
HUNG_UP = "the server hung up"
NO_HTTP = (HttpProcessingError, aiohttp.ClientResponseError, HttpParserError, HttpParserUpgrade)

REFUSING_STATUSES = frozenset({412, 429, 503})
"""The server says itself that it did not take the request.

Any other status but 200 may come from something between us and WeChat, and says nothing of the message.
"""


def by_status(status: int) -> Answer:
    """What a status that is not 200 comes to."""
    if status in REFUSING_STATUSES:
        return Answer(refused=f"HTTP {status}")
    return Answer(unanswered=f"HTTP {status}")


def no_connection(error: Exception) -> Answer:
    """What it comes to that there was no connection: nothing was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Answer(refused=UNTRUSTED)
    if isinstance(error, TimeoutError):
        return Answer(refused=NO_CONNECTION)
    return Answer(refused=f"no connection: {getattr(error, 'strerror', None) or str(error) or HUNG_UP}")


def broken(error: Exception) -> Answer:
    """What it comes to that the connection broke, or the server spoke no HTTP. In the same words for all."""
    why = HUNG_UP
    if isinstance(error, NO_HTTP):
        why = "what came is no HTTP"
    elif isinstance(error, aiohttp.ClientPayloadError):
        why = "half an answer"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    return Answer(unanswered=f"the connection broke: {why}")
