"""A long read whose reader has other things to do: the server waits, the daemon's memory does not grow."""

import asyncio
import tracemalloc
from datetime import UTC, datetime

import pytest
from bed.mariadb import USER
from bed.ports import eventually
from bed.site import mariadb_site

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.sql import SqlAudience
from broadcastd.settings import AccountSettings

pytestmark = pytest.mark.xdist_group("mariadb")

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
FOLLOWERS = 120_000
MOST_BYTES = 6_000_000
"""All rows at once are 15 MB."""
STATE = f"SELECT command, state FROM information_schema.processlist WHERE user = '{USER}'"


async def test_the_server_waits_for_a_reader_who_has_other_things_to_do(mariadb):
    mariadb_site(mariadb, FOLLOWERS)
    settings = AccountSettings.model_validate(
        {"audience": {"url": mariadb.url}, "template": {"template_id": "T1"}}
    )
    database = open_database(settings.audience)
    audience = SqlAudience(database, settings)
    await audience.pull(NOW, 1, 2)

    def the_server_is_blocked_or_done() -> bool:
        threads = mariadb.rows(STATE)
        return any(state == "Writing to net" for _, state in threads) or all(
            command == "Sleep" for command, _ in threads
        )

    seen: list[int] = []
    tracemalloc.start()
    try:
        async with audience.ids(NOW, None) as blocks:
            async for block in blocks:
                seen += (block[0], block[-1])
                # Meanwhile the loop takes whatever comes.
                await asyncio.to_thread(eventually, the_server_is_blocked_or_done, 20, "the server waits")
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await database.close()
    assert (seen[0], seen[-1]) == (2, 2 * FOLLOWERS)
    assert most_bytes < MOST_BYTES
