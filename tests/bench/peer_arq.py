"""`python -m bench.peer_arq API REDIS RECIPIENTS`: a job a recipient in arq, one worker, in one process."""

import asyncio
import json
import os
import sys
import time
from typing import Any

import aiohttp
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from bench.bare import PATH, message
from bench.processes import cpu_s, peak_mb

AT_ONCE = 100
ENQUEUED_AT_ONCE = 50


async def send(context: dict[Any, Any], number: int) -> None:
    async with context["session"].post(context["api"] + PATH, json=message(number)) as answer:
        assert (await answer.json())["errcode"] == 0


async def run(api: str, redis: str, recipients: int) -> dict[str, float]:
    settings = RedisSettings.from_dsn(redis)
    pool = await create_pool(settings)
    numbers = iter(range(recipients))

    async def enqueue() -> None:
        for number in numbers:
            await pool.enqueue_job("send", number, _job_id=f"job-{number}")

    before_s, began = cpu_s(os.getpid()), time.monotonic()
    await asyncio.gather(*(enqueue() for _ in range(ENQUEUED_AT_ONCE)))
    async with aiohttp.ClientSession() as session:
        worker = Worker(
            [func(send)], redis_settings=settings, burst=True, max_jobs=AT_ONCE, poll_delay=0.01,
            keep_result=0, handle_signals=False, ctx={"session": session, "api": api},
        )  # fmt: skip
        await worker.async_run()
        await worker.close()
    wall_s, used_s = time.monotonic() - began, cpu_s(os.getpid()) - before_s
    assert worker.jobs_complete == recipients, worker
    return {
        "per_s": recipients / wall_s, "sent_s": wall_s, "cpu_us": used_s / recipients * 1e6,
        "peak_mb": peak_mb(), "in_flight": AT_ONCE,
    }  # fmt: skip


def main() -> None:
    print(json.dumps(uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))))


if __name__ == "__main__":
    main()
