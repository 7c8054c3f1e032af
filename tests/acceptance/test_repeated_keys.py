"""Ten thousand frames with repeated keys from 50 connections at once: one job a key."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bed.arrivals import Arrivals, repeats
from bed.books import check_books, rows
from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.site import sqlite_site
from bed.wire import RawClient

CONNECTIONS, KEYS = 50, 100
AHEAD = 20
"""Frames on their way over one connection before their replies are read."""


@pytest.mark.parametrize("frames", [3_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_frames_with_repeated_keys_make_one_job_a_key(tmp_path: Path, frames: int) -> None:
    with counting_endpoint() as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 2)
        with daemon_process(tmp_path, endpoint.url, site, channels=["custom"]) as daemon:
            start = random.Random(17)
            orders = [start.choices(range(KEYS), k=frames // CONNECTIONS) for _ in range(CONNECTIONS)]

            def ask(keys: list[int]) -> list[tuple[int, str, bool]]:
                replies = []
                with RawClient(daemon.port) as client:
                    for first in range(0, len(keys), AHEAD):
                        some = keys[first : first + AHEAD]
                        for key in some:
                            client.send({"content": f"post-{key}", "key": f"order-{key}"})
                        for key in some:
                            reply = client.reply()
                            assert reply["ok"], reply
                            replies.append((key, reply["job"], reply["repeat"]))
                return replies

            with ThreadPoolExecutor(CONNECTIONS) as threads:
                replies = [one for some in threads.map(ask, orders) for one in some]
            assert len(replies) == frames
            asked = {key for keys in orders for key in keys}
            jobs = {key: {job for other, job, _ in replies if other == key} for key in asked}
            assert all(len(ids) == 1 for ids in jobs.values())
            assert len({job for ids in jobs.values() for job in ids}) == len(asked)
            fresh = Counter(key for key, _, repeat in replies if not repeat)
            assert fresh == Counter(asked), "one of each key's replies is not a repeat"
            assert rows(daemon.ledger, "SELECT count(*) FROM jobs") == [(len(asked),)]
            conflict = daemon.call({"content": "another post", "key": f"order-{min(asked)}"})
            assert conflict["error"] == "conflict"
            assert {conflict["job"]} == jobs[min(asked)]
            for ids in jobs.values():
                assert daemon.wait_done(*ids)["books"]["sent"] == 2
        assert len(arrivals.all) == 2 * len(asked)
        assert all(repeats(arrivals.received(f"post-{key}")) == 0 for key in asked)
        check_books(daemon.ledger)
