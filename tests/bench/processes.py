"""What a process has used, as the kernel tells it, and programs that tell their figures in JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Values = dict[str, float]
"""What one run came to, by quantity (`quantities.py`)."""


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_mb(pid: int | str = "self") -> float:
    """Peak resident memory. Not `ru_maxrss`: that knows of the parent's memory, from before exec, too."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def told(module: str, *arguments: object) -> Values:
    """Run `python -m bench.MODULE` in a process of its own; the figures that its last line tells."""
    command = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: Values = json.loads(done.stdout.splitlines()[-1])
    return found
