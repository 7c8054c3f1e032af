"""One run of one program: messages a second, CPU a message, peak memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from bed.attackers import Attack, Attackers
from bed.daemon import daemon_process
from bed.site import sqlite_site

from broadcastd.wire import dial

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DAY_S = 86400
LIMITS = "max_connections = {max_connections}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run came to."""

    per_s: float
    """Messages a second, by the wall clock."""
    cpu_us: float
    """User and system time of the process and its threads, a message."""
    peak_mb: float
    at_rest_ms_per_s: float = 0.0
    """CPU that the attackers alone cost, before the job began."""
    cut: int = 0
    """Attackers that were cut off, and came again."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the daemon has to do, and who attacks it meanwhile."""

    api: str
    recipients: int
    attack: Attack | None = None
    max_connections: int = 1000
    rest_s: float = 0.0


def run_daemon(scene: Scene) -> Measured:
    """A new daemon with a SQLite ledger sends one job."""
    with tempfile.TemporaryDirectory(prefix="broadcastd-bench-") as there:
        folder = Path(there)
        site = sqlite_site(folder / "site.db", scene.recipients)
        server = LIMITS.format(max_connections=scene.max_connections)
        with daemon_process(folder, scene.api, site, server=server, channels=["custom"]) as daemon:
            assert daemon.process is not None
            pid = daemon.process.pid
            first = daemon.call({"content": "warm up", "flag": 0})["job"]
            later = daemon.call({"content": "later", "to": ["oX"], "not_before": time.time() + DAY_S})["job"]
            daemon.wait_done(first)
            attack = scene.attack and replace(scene.attack, who=first, tail=later)
            attackers = None if attack is None else Attackers(daemon.port, attack)
            with attackers or nullcontext():
                resting_s = cpu_s(pid)
                time.sleep(scene.rest_s)
                began, began_s = time.monotonic(), cpu_s(pid)
                job = daemon.call({"content": "measured", "key": "measured"})["job"]
                frame = {"op": "tail", "job": job, "every_s": 0.25}
                *_, last = dial.stream("127.0.0.1", daemon.port, frame, 600)
                wall_s, used_s = time.monotonic() - began, cpu_s(pid) - began_s
            assert last["state"] == "done", last
            assert last["books"]["sent"] == scene.recipients, last
            return Measured(
                per_s=scene.recipients / wall_s,
                cpu_us=used_s / scene.recipients * 1e6,
                peak_mb=daemon.memory_kb() / 1024,
                at_rest_ms_per_s=(began_s - resting_s) / scene.rest_s * 1000 if scene.rest_s else 0.0,
                cut=sum(n for kind, n in attackers.counts.items() if kind.endswith("_cut")) if attackers else 0,
            )


def run_bare(api: str, recipients: int) -> Measured:
    """The least that can send the same calls: a loop over aiohttp, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "bench.bare", api, str(recipients)], check=True, stdout=subprocess.PIPE
    )
    return Measured(**json.loads(found.stdout))


def cpu_s(pid: int) -> float:
    """What a process has used so far, in user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
