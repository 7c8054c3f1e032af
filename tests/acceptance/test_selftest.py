"""`broadcastd selftest` as users run it: it passes, it can fail, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bed.ports import eventually

FAULTS = ("sending", "planning", "recovery", "SIGTERM", "database is away", "API hangs", "disk is full")

# A daemon whose ledger disappears between two starts: everybody who was not reached before is lost.
SABOTAGED = """
from broadcastd.cli.main import main
from broadcastd.selftest import run

def lose_the_ledger(bench):
    bench.insist(bench.payer.new())
    bench.receiving.wait_delivered(1, 60)
    bench.daemon.kill()
    for path in bench.daemon.ledger.parent.iterdir():
        path.unlink()
    bench.daemon.start()
    return "the ledger is deleted"

run.deal = lambda *_: [lose_the_ledger]
main()
"""


def selftest(folder: Path, *arguments: str, script: str = "") -> "subprocess.Popen[str]":
    start = ["-c", script] if script else ["-m", "broadcastd"]
    return subprocess.Popen(
        [sys.executable, *start, "selftest", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=150)
    return process.returncode, out, errors


def living_in(folder: Path) -> list[str]:
    """Processes that were started there and still run, and what is mounted there."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = os.readlink(cwd)
        except OSError:
            continue  # it has just ended
        if where.startswith(str(folder)):
            found.append(f"{cwd}: {where}")
    return found


def test_every_fault_loses_nobody(tmp_path: Path) -> None:
    code, out, errors = finished(
        selftest(tmp_path, "--rounds", "7", "--recipients", "400", "--tasks", "10", "--seed", "11", "--json")
    )
    assert code == 0, out + errors
    result = json.loads(out)
    assert result["ok"] is True
    assert result["options"]["seed"] == 11
    assert [one["no"] for one in result["rounds"]] == [1, 2, 3, 4, 5, 6, 7]
    done = " | ".join(one["what"] for one in result["rounds"])
    for fault in (
        "sending",
        "planning",
        "recovery",
        "SIGTERM",
        "database is away",
        "API hangs",
        "disk is full",
    ):
        assert fault in done
    assert "info says so" in done
    assert "meanwhile: not_durable" in done
    totals = result["totals"]
    assert totals["recipients"] == 400 * len(result["jobs"]) <= totals["received"] + totals["unknown"]
    assert totals["lost"] == 0
    assert totals["doubled"] <= totals["in_doubt"]
    # Not an idle daemon's: kills did interrupt something.
    assert sum(death["in_doubt"] for one in result["rounds"] for death in one["deaths"]) > 0
    assert all(verdict["ok"] for verdict in result["verdicts"])
    assert result["folder"] is None
    assert list(tmp_path.iterdir()) == []
    assert living_in(tmp_path) == []


def test_leave_sends_nothing_twice_and_the_folder_is_kept_when_asked_for(tmp_path: Path) -> None:
    code, out, errors = finished(
        selftest(
            tmp_path, "--rounds", "2", "--recipients", "400", "--tasks", "10", "--on-unknown", "leave",
            "--disk", "limit", "--keep",
        )
    )  # fmt: skip
    assert code == 0, out + errors
    assert "--on-unknown leave, --seed " in out
    assert "full disk: a file-size limit (RLIMIT_FSIZE) of the daemon" in out
    assert "nobody got it twice" in out
    assert "\n  2 " in out
    assert "passed in " in out
    (folder,) = tmp_path.iterdir()
    assert f"look at {folder}" in out
    assert {"daemon.log", "sandbox.log", "site.db", "broadcastd.toml"} <= {
        path.name for path in folder.iterdir()
    }
    assert (folder / "ledger" / "ledger.db").stat().st_size > 0
    assert living_in(tmp_path) == []


def test_a_lost_ledger_is_found_out(tmp_path: Path) -> None:
    code, out, errors = finished(
        selftest(tmp_path, "--recipients", "2000", "--latency-ms", "100", "--seed", "1", script=SABOTAGED)
    )
    assert code == 1, out + errors
    assert "FAILED" in out
    assert "are lost: neither received nor listed as unknown, such as o" in out
    assert "not ended: order-1 (missing)" in out
    (folder,) = tmp_path.iterdir()
    assert f"look at {folder}" in out
    assert (folder / "ledger" / "ledger.db").exists()
    assert living_in(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_selftest_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with selftest(tmp_path, "--rounds", "500", "--recipients", "100") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("broadcastd ")
        assert eventually(lambda: living_in(tmp_path), what="its processes run")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == []
    assert living_in(tmp_path) == []


@pytest.mark.parametrize("wrong", [("--rounds", "0"), ("--on-unknown", "maybe"), ("--recipients", "none")])
def test_nonsense_is_refused(tmp_path: Path, wrong: tuple[str, str]) -> None:
    code, _, errors = finished(selftest(tmp_path, *wrong))
    assert code == 2
    assert wrong[0] in errors
    assert list(tmp_path.iterdir()) == []
