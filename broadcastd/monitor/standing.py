"""How a daemon stands that does not answer: whether it starts, was stopped by somebody, or has died."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broadcastd.monitor.verdict import STARTING_S, Standing

SYSTEMCTL_S = 5.0
COMMAND_WITHIN = 4
"""Words of a command line that may be Python, its options, and the command."""
_BY_STATE = {
    "activating": Standing.STARTING,
    "reloading": Standing.STARTING,
    "deactivating": Standing.STOPPING,
    "inactive": Standing.STOPPED,
    "failed": Standing.CRASHED,
}


@dataclass(frozen=True, slots=True)
class Traces:
    """What tells of it."""

    restart: Sequence[str]
    """The command that restarts it: by it is known who runs it."""
    pid_file: Path | None = None
    """Of `broadcastd start`: a stop removes it, a crash leaves it."""
    ledger_lock: Path | None = None
    """Beside an embedded ledger: the pid of who worked on it last."""


def standing(traces: Traces, *, listens: bool = False) -> Standing:
    """How it stands. Never raises. `listens`: somebody does, and says nothing.

    With socket activation that is systemd, while the daemon starts; else it is a daemon that hangs.
    """
    by_systemd = _by_systemd(traces.restart)
    if by_systemd is not Standing.UNKNOWN or listens:
        return by_systemd
    ages_s = [_age_s(path) for path in (traces.pid_file, traces.ledger_lock)]
    for age_s in ages_s:
        if age_s is not None:
            return Standing.STARTING if age_s < STARTING_S else Standing.STOPPING
    pid_file = _pid_file(traces)
    if pid_file is None:
        return Standing.UNKNOWN
    return Standing.CRASHED if pid_file.exists() else Standing.STOPPED


def _by_systemd(restart: Sequence[str]) -> Standing:
    """What systemd says of the unit that is restarted."""
    if not restart or Path(restart[0]).name != "systemctl":
        return Standing.UNKNOWN
    unit = restart[-1]
    command = [restart[0], *(word for word in restart[1:] if word == "--user")]
    command += ["show", "--property=LoadState", "--property=ActiveState", unit]
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            command, capture_output=True, text=True, timeout=SYSTEMCTL_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return Standing.UNKNOWN
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if said.get("LoadState") != "loaded":
        return Standing.UNKNOWN
    return _BY_STATE.get(said.get("ActiveState", ""), Standing.UNKNOWN)


def _pid_file(traces: Traces) -> Path | None:
    """Of a daemon that `broadcastd start` runs; None: another one does."""
    words = list(traces.restart)
    if not any(Path(word).name == "broadcastd" for word in words) or not {"start", "restart"} & set(words):
        return None
    for no, word in enumerate(words):
        if word == "--pid-file" and no + 1 < len(words):
            return Path(words[no + 1])
        if word.startswith("--pid-file="):
            return Path(word.partition("=")[2])
    return traces.pid_file


def _age_s(path: Path | None) -> float | None:
    """For how long the broadcastd runs whose pid a file holds; None: it does not."""
    try:
        pid = int(path.read_text().strip()) if path is not None else 0
        if not pid or not _is_ours(Path(f"/proc/{pid}/cmdline").read_text(errors="replace")):
            return None
        # After the name, which may hold anything; the 22nd field is the start, in ticks since the boot.
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return up_s - ticks / os.sysconf("SC_CLK_TCK")


def _is_ours(command_line: str) -> bool:
    """Whether a process is a broadcastd. A Python in a folder of this name may be anything."""
    words = command_line.split("\0")
    return any(Path(word).name == "broadcastd" for word in words[:COMMAND_WITHIN])
