"""One run of one program: messages a second, CPU a message, peak memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bed.attackers import Attack, Attackers
from bed.daemon import DaemonProcess, daemon_process
from bed.site import sqlite_site

REST_S = 10
LOOK_S = 0.2
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run came to."""

    per_s: float
    """Messages a second, by the wall clock."""
    cpu_us: float
    """User and system time of the process and its threads, a message."""
    peak_mb: float
    rest_ms: float = 0.0
    """User and system time of one second before the job began, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the daemon has to do, and who attacks it meanwhile."""

    api: str
    recipients: int
    attack: Attack | None = None
    limits: str = ""
    """Lines of the section `[server]`."""


def run_daemon(scene: Scene) -> Measured:
    """A new daemon with a SQLite ledger sends one job."""
    with tempfile.TemporaryDirectory(prefix="broadcastd-bench-") as there:
        folder = Path(there)
        site = sqlite_site(folder / "site.db", scene.recipients)
        with daemon_process(folder, scene.api, site, server=scene.limits, channels=["custom"]) as daemon:
            first = daemon.call({"content": "warm up", "flag": 0})["job"]
            later = daemon.call({"content": "later", "to": ["oX"], "not_before": time.time() + DAY_S})["job"]
            daemon.wait_done(first)
            attack = scene.attack and replace(scene.attack, who=first, tail=later)
            with nullcontext() if attack is None else Attackers(daemon.port, attack):
                return _send(daemon, scene.recipients)


def _send(daemon: DaemonProcess, recipients: int) -> Measured:
    assert daemon.process is not None
    pid = daemon.process.pid
    resting_s = cpu_s(pid)
    time.sleep(REST_S)
    began_s = cpu_s(pid)
    job = daemon.call({"content": "measured", "key": "measured"})["job"]
    # Not by `tail`: the attackers' tails have their turns too, and the end would be seen late.
    while (view := daemon.job(job))["state"] != "done":
        time.sleep(LOOK_S)
    used_s = cpu_s(pid) - began_s
    assert view["books"]["sent"] == recipients, view
    finished, accepted = (datetime.fromisoformat(view[one]) for one in ("finished_at", "accepted_at"))
    wall_s = (finished - accepted).total_seconds()
    return Measured(
        per_s=recipients / wall_s,
        cpu_us=used_s / recipients * 1e6,
        peak_mb=daemon.memory_kb() / 1024,
        rest_ms=(began_s - resting_s) / REST_S * 1000,
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
