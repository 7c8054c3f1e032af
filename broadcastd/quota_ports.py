"""The seam to what WeChat says of the day's calls."""

from typing import Protocol

from broadcastd.model import Quota
from broadcastd.outcomes import Answer


class QuotaSource(Protocol):
    """What is left of an account's calls at WeChat. Never raises for what the network or WeChat does."""

    has_app_id: bool
    """Whether a reset can be asked for."""
    has_secret: bool
    """Whether it can be asked for without a token."""

    async def get(self, path: str, token: str) -> Quota | Answer:
        """The figures of one path, or why there are none."""
        ...

    async def clear(self, token: str | None) -> Answer | None:
        """Reset the account's daily calls: one of 10 resets a month. Why it was not done, or None.

        Without a token: by the app secret.
        """
        ...
