"""What reached the receiving side, call by call: which job, whom, when, and whether it was taken."""

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bed.endpoint import OK, Answer, CountingEndpoint

NO_ANSWER = b"<html>Bad gateway</html>"
"""Instead of WeChat's answer: the message was taken, and whoever sent it does not know."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call of the API."""

    at: float
    """By the wall clock."""
    tag: str
    """The job's content up to the first space."""
    openid: str
    path: str
    taken: bool
    message_id: str | None


class Arrivals:
    """The answers of a `CountingEndpoint`, with a note of each. `verdict` decides what is answered."""

    def __init__(self, endpoint: CountingEndpoint, verdict: Answer = lambda path, body: OK) -> None:
        self.all: list[Arrival] = []
        self.endpoint = endpoint
        self.verdict = verdict
        endpoint.answer = self._answer

    def _answer(self, path: str, body: dict[str, Any]) -> bytes:
        answer = self.verdict(path, body)
        text = body["text"]["content"] if "text" in body else body["data"]["keyword1"]["value"]
        self.all.append(
            Arrival(
                time.time(), text.split(" ")[0], str(body["touser"]), path.split("?", maxsplit=1)[0],
                answer in (OK, NO_ANSWER), body.get("client_msg_id"),
            )
        )  # fmt: skip
        return answer

    def of(self, tag: str, *, since: float = 0.0) -> list[Arrival]:
        """The calls of one job, since a moment."""
        return [one for one in list(self.all) if one.tag == tag and one.at > since]

    def received(self, tag: str) -> Counter[str]:
        """openid to how many messages of this job reached it."""
        return Counter(one.openid for one in self.of(tag) if one.taken)

    def between(self, first: float, last: float) -> int:
        """How many calls of all jobs came from one moment to another."""
        return sum(first <= one.at <= last for one in list(self.all))


def repeats(received: Counter[str]) -> int:
    """How many messages came to somebody who had got the text already."""
    return sum(received.values()) - len(received)


def lost(everybody: Collection[str], received: Counter[str], unknown: Collection[str]) -> set[str]:
    """Who neither got the text nor is listed as possibly reached."""
    return set(everybody) - set(received) - set(unknown)
