"""The daemon, started as an operator would, and one job of it measured from its frame to its last message."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bed.attackers import Attack, Attackers
from bed.daemon import DaemonProcess
from bed.ports import eventually, free_port

from bench.processes import Values, cpu_s, peak_mb
from bench.scenario import Grounds

WARM_UP = "warm up"
LOOK_S = 0.2
REST_S = 10
DAY_S = 86400
MOST_S = 3600
"""Only ends a run that will never end."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the daemon has to do, and who attacks it meanwhile."""

    api: str
    audience: str
    recipients: int
    transport: str = ""
    mysql_ledger: bool = False
    """Its ledger is in MariaDB; else in SQLite."""
    attack: Attack | None = None
    limits: str = ""
    """Lines of the section `[server]`."""
    look_at_rest: bool = False


class MeasuredDaemon(DaemonProcess):
    """With further settings from the environment. Its log goes to a file."""

    environment: dict[str, str]

    def launch(self, **how: Any) -> None:
        """See `DaemonProcess`. Always by the real command, whatever tests may do."""
        del how
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "broadcastd", "run", "-c", str(self.settings)],
                stdout=log, stderr=log, env={**os.environ, **self.environment},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@contextmanager
def running(grounds: Grounds, scene: Scene) -> Iterator[MeasuredDaemon]:
    """A new daemon with a new ledger, in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=grounds.folder) as there:
        settings: dict[str, Any] = {
            "server": scene.limits,
            "http": f"port = {free_port()}",
            "answer_timeout_s": 120,
        }
        if scene.mysql_ledger:
            settings["ledger_url"] = grounds.database.url_of(grounds.database.new_database())
        daemon = MeasuredDaemon(Path(there), scene.api, scene.audience, **settings)
        named = {"BROADCASTD_ACCOUNTS__DEFAULT__HTTP__TRANSPORT": scene.transport}
        daemon.environment = named if scene.transport else {}
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.close()


def run_daemon(grounds: Grounds, scene: Scene) -> Values:
    """One job, after a first one of 500 that opens connections and loads what is loaded late."""
    with running(grounds, scene) as daemon:
        first = daemon.call({"content": WARM_UP, "flag": 0})["job"]
        later = daemon.call({"content": "later", "to": ["oX"], "not_before": time.time() + DAY_S})["job"]
        daemon.wait_done(first)
        attack = scene.attack and replace(scene.attack, who=first, tail=later)
        with nullcontext() if attack is None else Attackers(daemon.port, attack):
            rest = _at_rest(daemon) if scene.look_at_rest else {}
            return {**_send(grounds, daemon, scene.recipients), **rest}


def _at_rest(daemon: MeasuredDaemon) -> Values:
    began_s = cpu_s(daemon.pid)
    time.sleep(REST_S)
    return {"rest_ms": (cpu_s(daemon.pid) - began_s) / REST_S * 1000}


def _send(grounds: Grounds, daemon: MeasuredDaemon, recipients: int) -> Values:
    served, began_s = grounds.endpoint.served(), cpu_s(daemon.pid)
    job = daemon.call({"content": "measured", "key": "measured"})["job"]
    # Not by `tail`: the attackers' tails have their turns too, and the end would be seen late.
    view = wait_ended(daemon, job)
    used_s = cpu_s(daemon.pid) - began_s
    assert view["books"]["sent"] == recipients, view
    assert grounds.endpoint.served() - served > recipients, "the endpoint has not seen them all"
    sent_s = between_s(view, "accepted_at", "last_sent_at")
    return {
        "per_s": recipients / sent_s,
        "sent_s": sent_s,
        "done_s": between_s(view, "accepted_at", "finished_at"),
        "first_ms": between_s(view, "accepted_at", "first_sent_at") * 1000,
        "cpu_us": used_s / recipients * 1e6,
        "peak_mb": peak_mb(daemon.pid),
    }


def wait_ended(daemon: DaemonProcess, job: str) -> dict[str, Any]:
    """Look rarely until the job is done; its last view."""
    deadline = time.monotonic() + MOST_S
    while (view := daemon.job(job))["state"] != "done":
        assert view["state"] in ("accepted", "running"), view
        assert time.monotonic() < deadline, view
        time.sleep(LOOK_S)
    return view


def planned_s(grounds: Grounds, scene: Scene) -> Values:
    """From a job's acceptance to the line of the log that says that its audience is frozen."""
    with running(grounds, scene) as daemon:
        daemon.call({"content": WARM_UP, "dry_run": True})  # opens a connection, looks what :now is
        before_s = cpu_s(daemon.pid)
        reply = daemon.call({"content": "measured", "key": "measured"})
        frozen = eventually(lambda: daemon.events("job_planned"), 600, "the job is planned")[0]
        used_s = cpu_s(daemon.pid) - before_s
        view = daemon.job(reply["job"])
        assert frozen["recipients"] == scene.recipients, frozen
        planned_at = datetime.fromisoformat(frozen["timestamp"])
        wall_s = (planned_at - datetime.fromisoformat(view["accepted_at"])).total_seconds()
        return {"read_s": wall_s, "cpu_s": used_s}


def between_s(view: dict[str, Any], first: str, second: str) -> float:
    """The time between two moments of a job's view."""
    began, ended = (datetime.fromisoformat(view[one]) for one in (first, second))
    return (ended - began).total_seconds()
