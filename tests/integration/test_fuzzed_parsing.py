"""The parsing of frames under atheris, where it is installed (`pip install atheris`: Linux, some Pythons)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60
SEEDS = [
    {
        "content": "x", "phone": 110, "key": "k", "ref": "r", "flag": "0", "account": "default", "to": ["o"],
        "channels": ["custom"], "template": "t", "data": {"a": "b"}, "dry_run": True, "on_unknown": "leave",
        "not_before": "2026-01-01T00:00:00+08:00", "not_after": 1800000000, "token": "t",
    },
    {"op": "retry", "job": "j", "only": ["failed", "unknown"], "round": 2, "not_after": 1e9},
    {"op": "who", "job": "j", "outcome": ["none", "sent"], "openid": "o"},
    {"op": "verify", "report": {"job": "j", "books": [1, 2.5, None]}},
    {"op": "rate", "per_second": "off", "in_flight": "auto", "channel": "custom"},
    {"op": "tail", "job": "j", "every_s": 0.1},
    {"op": "drain", "off": True, "every_s": 1},
    {"op": "jobs", "limit": 3, "open": True, "account": "a"},
]  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 120)
def test_no_bytes_raise_anything(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(b"\x80" + json.dumps(seed).encode() + b"\n")
    fuzz = subprocess.run(
        [
            sys.executable, "-m", "bed.fuzz_parsing", str(corpus), f"-max_total_time={SECONDS}",
            "-max_len=2000", f"-artifact_prefix={tmp_path}/",
        ],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert fuzz.returncode == 0, fuzz.stderr[-3000:]
    print(fuzz.stderr.splitlines()[-1])
