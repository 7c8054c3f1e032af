"""Who starts it again, who notices when it is down, and whom they tell."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from broadcastd.doctor.finding import Finding, Findings, fail, ok, skipped, warn
from broadcastd.doctor.subject import Subject

SYSTEMD_RUNS = Path("/run/systemd/system")
"""sd_booted(3)."""
UNIT = "broadcastd.service"
TIMER = "broadcastd-monitor.timer"
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "Type",
    "WatchdogUSec",
    "ActiveEnterTimestamp",
    "NRestarts",
    "MainPID",
    "NeedDaemonReload",
    "TriggeredBy",
)
CRONTABS = (Path("/etc/crontab"), Path("/etc/cron.d"), Path("/var/spool/cron/crontabs"))
COMMAND_S = 5.0
ENABLED = ("enabled", "enabled-runtime", "static", "generated")


def systemd_runs() -> bool:
    """Whether it is this machine's init."""
    return SYSTEMD_RUNS.is_dir()


async def unit(subject: Subject) -> Findings:
    """Whether systemd starts it, and starts it again."""
    if not systemd_runs():
        return [skipped("systemd does not run here")]
    pid = (await subject.daemon()).pid
    name = _unit_of(pid) or UNIT
    return judge_unit(name, await asyncio.to_thread(lambda: _shown(name)), pid)


def judge_unit(name: str, shown: Mapping[str, str], pid: int | None) -> Findings:
    """`shown`: its properties, as systemctl has them; `pid`: of the daemon that answers."""
    if shown.get("LoadState") != "loaded":
        gone = f"there is no unit {name}: nobody starts it with the machine, or again after a crash"
        return [warn(gone, "scripts/install-service")]
    found = _judge_state(name, shown, pid)
    enabled = shown.get("UnitFileState", "")
    if enabled not in ENABLED and not shown.get("TriggeredBy"):
        words = f"{name} is {enabled or 'not enabled'}: it is not started with the machine"
        found.append(warn(words, f"systemctl enable {name}"))
    if shown.get("WatchdogUSec", "0") in ("0", "infinity", ""):
        words = f"{name} has no watchdog: a daemon that hangs is not started again"
        found.append(warn(words, f"systemctl edit {name}: [Service] WatchdogSec=30"))
    if shown.get("NeedDaemonReload") == "yes":
        mend = f"systemctl daemon-reload; systemctl restart {name}"
        found.append(warn(f"{name} was changed on disk since", mend))
    since, restarts = shown.get("ActiveEnterTimestamp", ""), shown.get("NRestarts", "0")
    watchdog = f"watchdog {shown.get('WatchdogUSec')}"
    return found or [ok(f"{name}: enabled, active since {since}, {watchdog}, started again {restarts} times")]


def _judge_state(name: str, shown: Mapping[str, str], pid: int | None) -> Findings:
    active, main = shown.get("ActiveState", ""), shown.get("MainPID", "0")
    if active == "failed":
        return [fail(f"{name} has failed", f"journalctl -u {name} -n 50, then systemctl restart {name}")]
    if active not in ("active", "activating", "reloading"):
        return [warn(f"{name} is {active or 'not active'}", f"systemctl start {name}")]
    if pid is not None and main not in ("0", str(pid)):
        words = f"{name} is process {main}, and process {pid} answers on its port"
        return [fail(words, f"stop the other one: kill {pid}")]
    return []


def read_properties(text: str) -> dict[str, str]:
    """What `systemctl show` prints, a line each."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def unit_in(cgroup: str) -> str | None:
    """The unit of a process, by its /proc/PID/cgroup."""
    found = re.search(r"/([\w@.\\-]+\.service)", cgroup)
    return found[1] if found else None


def _unit_of(pid: int | None) -> str | None:
    """Only one of ours: somebody's shell is in a unit, too."""
    with contextlib.suppress(OSError):
        name = unit_in(Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii"))
        return name if name is not None and name.startswith("broadcastd") else None
    return None


def _shown(name: str) -> dict[str, str]:
    command = ["systemctl", "show", name, *(f"--property={one}" for one in PROPERTIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)  # noqa: S603
    return read_properties(done.stdout)


async def monitor(subject: Subject) -> Findings:
    """Whether somebody looks at it every minute."""
    del subject
    if systemd_runs():
        shown = await asyncio.to_thread(lambda: _shown(TIMER))
        if shown.get("LoadState") == "loaded":
            return [judge_timer(shown)]
    lines = await asyncio.to_thread(lambda: list(_cron_lines()))
    return [judge_cron(lines)]


def judge_timer(shown: Mapping[str, str]) -> Finding:
    """`shown`: its properties."""
    if shown.get("ActiveState") == "active":
        return ok(f"{TIMER} is active")
    return fail(
        f"{TIMER} is {shown.get('ActiveState') or 'not active'}: nobody notices when the daemon is down",
        f"systemctl enable --now {TIMER}",
    )


def judge_cron(lines: Iterable[str]) -> Finding:
    """`lines`: of all crontabs that can be read."""
    for line in lines:
        if not line.lstrip().startswith("#") and re.search(r"\bbroadcastd\S*\s+monitor\b", line):
            return ok("a crontab runs broadcastd monitor")
    return warn(
        "neither a timer nor a crontab runs broadcastd monitor: nobody notices when the daemon is down",
        f"systemctl enable --now {TIMER}; without systemd in a crontab: * * * * * broadcastd monitor -c FILE",
    )


def _cron_lines() -> Iterator[str]:
    for place in CRONTABS:
        files = sorted(place.iterdir()) if _is_open_folder(place) else [place]
        for file in files:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                yield from file.read_text(encoding="utf-8").splitlines()
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["crontab", "-l"],  # noqa: S607 - wherever this system has it
            capture_output=True, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        yield from done.stdout.splitlines()


def _is_open_folder(place: Path) -> bool:
    try:
        return place.is_dir() and any(True for _ in place.iterdir())
    except OSError:
        return False


async def alerts(subject: Subject) -> Findings:
    """Whether anybody is told."""
    return [judge_alerts([url.get_secret_value() for url in subject.whole.alerts.urls])]


def judge_alerts(urls: Iterable[str]) -> Finding:
    """`urls`: secrets; only what stands before :// is shown."""
    kinds = [url.partition("://")[0] for url in urls]
    if kinds:
        return ok(
            f"{len(kinds)} addresses are told ({', '.join(kinds)}); broadcastd alert test sends them a test"
        )
    return warn(
        "nobody is told when a job is held, a quota is short or the daemon is down",
        '[alerts] urls = ["mailtos://user:password@smtp.example.com?to=ops@example.com"], then: broadcastd'
        " alert test",
    )
