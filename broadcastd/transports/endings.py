"""How a call ends without WeChat's own word, in words that all transports share."""

from broadcastd.outcomes import Answer

UNTRUSTED = "the server's certificate is not trusted"
NO_CONNECTION = "no connection in time"
NO_ANSWER = "no answer in time"
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
