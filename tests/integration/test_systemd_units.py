"""The units as systemd's own tools see them, and the daemon under the limits that they set."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bed import confined
from bed.daemon import DaemonProcess
from bed.endpoint import counting_endpoint
from bed.mariadb import PrivateMariaDb
from bed.site import mariadb_site

from broadcastd.server_settings import ServerSettings

SYSTEMD = Path(__file__).parents[2] / "systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
MAXIMUM_EXPOSURE = 2.0


@pytest.mark.parametrize("name", SERVICES)
def test_how_exposed_a_service_is(name: str) -> None:
    shown = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=yes", SYSTEMD / name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", shown.stdout)
    assert float(score) <= MAXIMUM_EXPOSURE


def machine(root: Path) -> Path:
    """A folder with what the units refer to: systemd's targets, the program."""
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in SYSTEMD.glob("broadcastd*"):
        shutil.copy(unit, units)
    own = root / "usr/lib/systemd/system"
    own.mkdir(parents=True)
    for pattern in ("*.target", "*.slice"):
        for unit in Path("/usr/lib/systemd/system").glob(pattern):
            shutil.copy(unit, own, follow_symlinks=False)
    for program in (root / "opt/broadcastd/bin/broadcastd", root / "bin/kill"):
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    address = units / "broadcastd@shop.socket.d/address.conf"
    address.parent.mkdir()
    address.write_text("[Socket]\nListenStream=127.0.0.1:9190\n")
    return root


def verified(root: Path) -> subprocess.CompletedProcess[str]:
    names = [
        name.replace("@.", "@shop.") for name in sorted(os.listdir(SYSTEMD)) if name.startswith("broadcastd")
    ]
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}", *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_systemd_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    done = verified(machine(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_complain_of_a_misspelt_key(tmp_path: Path) -> None:
    unit = machine(tmp_path) / "etc/systemd/system/broadcastd.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in verified(tmp_path).stderr


def keys(name: str) -> list[str]:
    """A unit's lines without comments."""
    lines = (SYSTEMD / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "name", ["broadcastd.service", "broadcastd-monitor.service", "broadcastd-monitor.timer"]
)
def test_several_are_as_one_but_for_their_names(name: str) -> None:
    one, several = keys(name), keys(name.replace(".", "@."))
    assert len(one) == len(several)
    assert [line for line in several if "%i" not in line] == [
        first for first, second in zip(one, several, strict=True) if "%i" not in second
    ]


def test_the_daemon_may_drain_before_it_is_killed() -> None:
    (stop_s,) = confined.values(SYSTEMD / "broadcastd.service", "TimeoutStopSec")
    assert int(stop_s) > ServerSettings().drain_s * 2


def test_nothing_makes_it_give_up() -> None:
    assert {"Restart=always", "StartLimitIntervalSec=0", "RestartSec=1"} <= set(keys("broadcastd.service"))
    assert "TriggerLimitIntervalSec=0" in keys("broadcastd.socket")


class ConfinedDaemon(DaemonProcess):
    """The daemon under the limits of its unit."""

    def launch(self, *, cold: bool = False) -> None:
        del cold
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, confined.__file__, SYSTEMD / "broadcastd.service",
                 sys.executable, "-m", "broadcastd", "run", "-c", self.settings],
                stdout=log, stderr=log,
            )  # fmt: skip


def test_a_job_under_the_unit_s_own_limits(tmp_path: Path, mariadb: PrivateMariaDb) -> None:
    with counting_endpoint() as endpoint:
        daemon = ConfinedDaemon(tmp_path, endpoint.url, mariadb_site(mariadb, 200))
        try:
            daemon.start()
            assert daemon.process is not None
            status = Path(f"/proc/{daemon.process.pid}/status").read_text()
            assert ("Seccomp:\t2" in status, "NoNewPrivs:\t1" in status) == (True, True)
            job = daemon.call({"content": "confined", "key": "k"})["job"]
            assert daemon.wait_done(job)["books"]["sent"] == 200
            assert daemon.stop() == 0
        finally:
            daemon.close()
    assert len(endpoint.received) == 200


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import os; os.chroot('/')",
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    ],
)
def test_the_limits_are_felt(attempt: str) -> None:
    done = subprocess.run(
        [sys.executable, confined.__file__, SYSTEMD / "broadcastd.service", sys.executable, "-c", attempt],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "PermissionError" in done.stderr
