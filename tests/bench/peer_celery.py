"""`python -m bench.peer_celery API REDIS RECIPIENTS`: a task a recipient in Celery, two worker processes."""

import functools
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from bed.ports import eventually
from celery import Celery

from bench.bare import PATH, message
from bench.processes import cpu_s, peak_mb

WORKERS = 2
app = Celery("bench.peer_celery", broker=os.environ.get("BENCH_REDIS", ""))
app.conf.task_ignore_result = True


@functools.cache
def connection() -> http.client.HTTPConnection:
    """One for each of the worker's processes, kept."""
    there = urlsplit(os.environ["BENCH_API"])
    return http.client.HTTPConnection(there.hostname or "", there.port, timeout=30)


@app.task
def send(number: int) -> None:
    connection().request("POST", PATH, json.dumps(message(number)), {"Content-Type": "application/json"})
    assert json.loads(connection().getresponse().read())["errcode"] == 0


def served(api: str) -> int:
    with urllib.request.urlopen(f"{api}/served", timeout=10) as answer:
        found = re.search(rb"\n (\d+) (\d+) (\d+) \n", answer.read())
    assert found is not None
    return int(found[3])


def family(pid: int) -> list[int]:
    """A process and its children."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(child) for one in lists for child in one.read_text().split())]


def measure(api: str, recipients: int, worker: "subprocess.Popen[bytes]") -> dict[str, float]:
    eventually(lambda: app.control.ping(timeout=0.5), 60, "the worker answers")
    before_s, asked, began = sum(map(cpu_s, family(worker.pid))), served(api), time.monotonic()
    for number in range(recipients):
        send.delay(number)
    looks = 1
    while served(api) - asked - looks < recipients:
        looks += 1
        assert worker.poll() is None, "the worker has ended"
        time.sleep(0.02)
    wall_s, used_s = time.monotonic() - began, sum(map(cpu_s, family(worker.pid))) - before_s
    return {
        "per_s": recipients / wall_s, "sent_s": wall_s, "cpu_us": used_s / recipients * 1e6,
        "peak_mb": sum(map(peak_mb, family(worker.pid))), "in_flight": WORKERS,
    }  # fmt: skip


def main() -> None:
    api, redis, recipients = sys.argv[1], sys.argv[2], int(sys.argv[3])
    app.conf.broker_url = redis
    command = ["-m", "celery", "-A", "bench.peer_celery", "worker", "-c", str(WORKERS), "--loglevel", "ERROR"]
    environment = {**os.environ, "BENCH_REDIS": redis, "BENCH_API": api, "C_FORCE_ROOT": "1"}
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
        try:
            print(json.dumps(measure(api, recipients, worker)))
        finally:
            worker.terminate()
            worker.wait(30)


if __name__ == "__main__":
    main()
