"""How a call ends without WeChat's own word, in words that all transports share."""

import ssl

from broadcastd.outcomes import Answer

UNTRUSTED = "the server's certificate is not trusted"
NO_CONNECTION = "no connection in time"
NO_ANSWER = "no answer in time"
ENCODED = "an answer in an encoding that nobody asked for"
TOO_LONG = "an answer far too long for WeChat"

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
    return Answer(refused=f"no connection: {getattr(error, 'strerror', None) or error}")


def broken(error: Exception) -> Answer:
    """What it comes to that the connection broke, or the server spoke no HTTP."""
    return Answer(unanswered=f"the connection broke: {type(error).__name__}")
