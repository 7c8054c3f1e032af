"""The units under a real systemd, booted in namespaces: installed, restarted, killed, hung, removed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOOTED = ROOT / "tests" / "bed" / "booted"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="booting needs root")
@pytest.mark.skipif(not Path("/lib/systemd/systemd").exists(), reason="there is no systemd to boot")
def test_a_night_under_systemd(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    folder = tmp_path / "booted"
    folder.mkdir()
    booted = subprocess.run(
        ["unshare", "--mount", "bash", BOOTED / "boot.sh", checkout, folder, BOOTED / "night.sh"],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    said = (folder / "out").read_text() if (folder / "out").exists() else (folder / "installed").read_text()
    well = said.rstrip().endswith("ALL WELL")
    assert well, said[-6000:] + booted.stderr[-2000:]
