"""`python -m bench.reading URL`: the bare unbuffered read of an audience's ids, as asyncmy does it."""

import json
import os
import sys
import time
from datetime import datetime

import asyncmy
import uvloop
from asyncmy.cursors import SSCursor
from sqlalchemy import make_url

from bench.processes import cpu_s
from broadcastd.settings import DEFAULT_QUERY

BLOCK = 5000


def statement() -> str:
    """The daemon's own, with its values in it."""
    now = f"CAST('{datetime.now():%Y-%m-%d %H:%M:%S}' AS DATETIME)"
    return f"SELECT id FROM ({DEFAULT_QUERY.replace(':now', now)}) AS audience ORDER BY id"


async def read(url: str) -> dict[str, float]:
    there = make_url(url)
    connection = await asyncmy.connect(
        host=there.host, port=there.port, user=there.username, password=there.password, db=there.database
    )
    async with connection.cursor(SSCursor) as cursor:
        before_s, began, rows = cpu_s(os.getpid()), time.monotonic(), 0
        await cursor.execute(statement())
        while block := await cursor.fetchmany(BLOCK):
            rows += len(block)
        wall_s, used_s = time.monotonic() - began, cpu_s(os.getpid()) - before_s
    connection.close()
    assert rows > 0
    return {"read_s": wall_s, "cpu_s": used_s}


def main() -> None:
    print(json.dumps(uvloop.run(read(sys.argv[1]))))


if __name__ == "__main__":
    main()
