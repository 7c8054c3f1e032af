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
"""Of one place, each of another slice there."""

PLACES = {"front": 0.0, "middle": 0.5, "end": 1.0}


async def pull(url: str, followers: int) -> dict[str, float]:
    """Milliseconds a slice, the median of each place. The ids are even (`audience.py`)."""
    settings = AccountSettings(audience=AudienceSettings(url=SecretStr(url)), channels=("custom",))
    database, now = open_database(settings.audience), SystemClock().now()
    there = SqlAudience(database, settings)
    pulls = min(PULLS, followers // SLICE)
    found = {}
    for place, share in PLACES.items():
        start = round((followers - pulls * SLICE) * share)
        took_s = []
        for number in range(pulls):
            first = 2 * (start + number * SLICE + 1)
            began = time.monotonic()
            rows = await there.pull(now, first, first + 2 * (SLICE - 1))
            took_s.append(time.monotonic() - began)
            assert len(rows) == SLICE
        found[place] = median(took_s) * 1000
    await database.close()
    return found


def main() -> None:
    print(json.dumps(uvloop.run(asyncio.wait_for(pull(sys.argv[1], int(sys.argv[2])), 600))))


if __name__ == "__main__":
    main()
