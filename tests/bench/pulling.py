"""`python -m bench.pulling URL FOLLOWERS`: how long the daemon's query for a slice takes, by its place."""

import asyncio
import json
import sys
import time
from statistics import median

import uvloop
from pydantic import SecretStr

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.sql import SqlAudience
from broadcastd.clock import SystemClock
from broadcastd.settings import AccountSettings, AudienceSettings

SLICE = 500
PULLS = 200
"""Of one place, each of another slice there; the places take turns."""

PLACES = {"front": 0.0, "middle": 0.5, "end": 1.0}


async def pull(url: str, followers: int) -> dict[str, float]:
    """Milliseconds a slice, the median of each place. The ids are even (`audience.py`)."""
    settings = AccountSettings(audience=AudienceSettings(url=SecretStr(url)), channels=("custom",))
    database, now = open_database(settings.audience), SystemClock().now()
    there = SqlAudience(database, settings)
    pulls = min(PULLS, followers // SLICE)
    starts = {place: round((followers - pulls * SLICE) * share) for place, share in PLACES.items()}
    took_s: dict[str, list[float]] = {place: [] for place in PLACES}
    await there.pull(now, 1, 1)  # opens the connection
    for number in range(pulls):
        for place, start in starts.items():
            first = 2 * (start + number * SLICE + 1)
            began = time.monotonic()
            rows = await there.pull(now, first, first + 2 * (SLICE - 1))
            took_s[place].append(time.monotonic() - began)
            assert len(rows) == SLICE
    await database.close()
    return {place: median(times) * 1000 for place, times in took_s.items()}


def main() -> None:
    print(json.dumps(uvloop.run(asyncio.wait_for(pull(sys.argv[1], int(sys.argv[2])), 600))))


if __name__ == "__main__":
    main()
