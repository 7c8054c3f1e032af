"""`python -m bench.bare URL RECIPIENTS`: a tuned loop over aiohttp, no ledger, no retries."""

import asyncio
import json
import resource
import sys
import time

import aiohttp
import orjson
import uvloop

IN_FLIGHT = 32
"""Of 8, 16, 32, 64 and 128 the fastest against nginx on two cores."""


async def send_all(api: str, recipients: int) -> None:
    url = f"{api}/cgi-bin/message/custom/send?access_token=TOKEN"
    numbers = iter(range(1, recipients + 1))
    text = {"content": "measured 點擊下方“信息查詢”查看更多求購信息。回復0取消接收信息,回復1重新接收信息"}

    async def worker() -> None:
        for number in numbers:
            body = orjson.dumps({"touser": f"o{number:027d}", "msgtype": "text", "text": text})
            async with session.post(url, data=body) as answer:
                assert orjson.loads(await answer.read())["errcode"] == 0

    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def main() -> None:
    api, recipients = sys.argv[1], int(sys.argv[2])
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    uvloop.run(send_all(api, recipients))
    after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {
        "per_s": recipients / wall_s,
        "cpu_us": used_s / recipients * 1e6,
        "peak_mb": after.ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
