"""A `QuotaSource` that says what a test tells it to say."""

from zoneinfo import ZoneInfo

from broadcastd.delivery.forecast import Reset
from broadcastd.model import Quota
from broadcastd.outcomes import Answer

SHANGHAI = Reset("00:00", ZoneInfo("Asia/Shanghai"))


class ScriptedQuotas:
    """Implements `QuotaSource`: `left` of 1,000 calls, unless `answers` has something else to say first."""

    has_app_id = True
    has_secret = False

    def __init__(self, left: int = 0) -> None:
        self.left = left
        self.answers: list[Answer] = []
        """What is answered first, one a call."""
        self.asked: list[tuple[str, str]] = []
        self.cleared_with: list[str | None] = []

    async def get(self, path: str, token: str) -> Quota | Answer:
        self.asked.append((path, token))
        return self.answers.pop(0) if self.answers else Quota(1000, 1000 - self.left, self.left)

    async def clear(self, token: str | None) -> Answer | None:
        self.cleared_with.append(token)
        if self.answers:
            return self.answers.pop(0)
        self.left = 1000
        return None
