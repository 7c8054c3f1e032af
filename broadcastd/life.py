"""The daemon as a whole, for those who may end it or have it read its settings again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from broadcastd.reload import Reloaded


@dataclass(frozen=True, slots=True)
class Life:
    """`reload` raises SettingsError, and then nothing is changed."""

    reload: Callable[[], Reloaded]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Told to stop: what is under way is let end."""
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is under way any more, and everything is on disk."""

    async def stops_within(self, within_s: float) -> bool:
        """Wait; whether the daemon was told to stop meanwhile."""
        return await _within(self.stopping, within_s)

    async def drained_within(self, within_s: float) -> bool:
        """Wait; whether it has drained meanwhile."""
        return await _within(self.drained, within_s)


async def _within(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False
