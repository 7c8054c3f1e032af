"""What the machine is, in general words: nothing that tells which one."""

import os
import platform
import re
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def machine(folder: Path) -> dict[str, str]:
    """By what it is called on the page. `folder`: where ledgers are."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "ledger on": _file_system(folder),
        "Python": platform.python_version(),
        **{name: version(name) for name in ("aiohttp", "uvloop", "orjson", "asyncmy", "SQLAlchemy")},
        "SQLite": sqlite3.sqlite_version,
        "nginx": _said(["nginx", "-v"]),
        "MariaDB": _said(["mariadb", "--version"], r"\d+\.\d+\.\d+(?=-MariaDB)"),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.machine()


def _file_system(folder: Path) -> str:
    done = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    name = done.stdout.strip()
    if name == "tmpfs":
        print("ledgers are in memory: set TMPDIR to a folder on a disk", file=sys.stderr)
    return name.replace("ext2/ext3", "ext4")


def _said(command: list[str], what: str = r"\d+\.\d+\.\d+") -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.search(what, done.stdout)
    return found[0] if found else "?"
