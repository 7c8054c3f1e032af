"""`scripts/bench` measures: a small run of it, whose figures say nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.long
@pytest.mark.xdist_group("mariadb")
def test_a_small_run_prints_its_tables() -> None:
    command = ["-m", "bench", "quick", "planning", "depth", "--rounds", "1", "--recipients", "2000"]
    paths = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, **paths}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for row in ("HTTP | broadcastd", "HTTPS | broadcastd", "frames | 50 connections", "no index | end"):
        assert re.search(rf"^\| {re.escape(row)} \| .*\d", done.stdout, re.MULTILINE), row
