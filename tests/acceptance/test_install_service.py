"""scripts/install-service under --root: what it puts where, run again, another daemon, uninstalled."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted(path.name for path in (ROOT / "systemd").glob("broadcastd*"))
TEMPLATE = "REPLACE-WITH-YOUR-TEMPLATE-ID"


def install(root: Path, *options: str, code: int = 0, checkout: Path = ROOT) -> str:
    """Run it; what it said. The libraries are those of the tests: only the package itself is built."""
    environment = {
        **os.environ,
        "BROADCASTD_PYTHON": sys.executable,
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say: without isolation, that is without a network
        "PIP_NO_INDEX": "1",
    }
    done = subprocess.run(
        [checkout / "scripts" / "install-service", "--root", root, *options],
        capture_output=True, text=True, env=environment, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def command(root: Path, *words: str) -> str:
    """The installed command, away from the checkout."""
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    done = subprocess.run(
        [root / "usr/local/bin/broadcastd", *words],
        capture_output=True, text=True, env=environment, cwd=root, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the daemon in it: one environment for all tests, which leave it as it was."""
    root = tmp_path_factory.mktemp("machine")
    said = install(root)
    assert "Not started yet" in said
    assert "fill in /etc/broadcastd/broadcastd.toml" in said
    return root


def files(root: Path) -> dict[str, tuple[int, float]]:
    """Everything there but the program: mode, when changed."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.startswith(("opt/", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/.pwd")):
            found[name] = (path.lstat().st_mode, path.lstat().st_mtime if name.endswith(".toml") else 0)
    return found


def test_everything_is_in_place(machine: Path) -> None:
    assert sorted(path.name for path in (machine / "etc/systemd/system").iterdir()) == UNITS
    for name in (
        "etc/sysusers.d/broadcastd.conf",
        "etc/tmpfiles.d/broadcastd.conf",
        "usr/local/share/man/man1/broadcastd.1",
        "usr/local/share/bash-completion/completions/broadcastd",
        "usr/local/share/zsh/site-functions/_broadcastd",
        "usr/local/share/fish/vendor_completions.d/broadcastd.fish",
        "opt/broadcastd/share/broadcastd/systemd/broadcastd.service",
    ):
        assert (machine / name).stat().st_size > 50, name
    assert re.fullmatch(r"broadcastd, version \d+\.\d+\.\d+\n", command(machine, "--version"))


def test_the_settings_are_for_the_service(machine: Path) -> None:
    settings = machine / "etc/broadcastd/broadcastd.toml"
    ledger = tomllib.loads(settings.read_text(encoding="utf-8"))["ledger"]
    assert ledger["url"] == "sqlite:////var/lib/broadcastd/broadcastd.db"
    assert ledger["identity_dir"] == "/var/lib/broadcastd-identity"
    if os.geteuid() == 0:
        passwd = (machine / "etc/passwd").read_text()
        group = int(re.findall(r"^broadcastd:[^:]*:\d+:(\d+):", passwd, re.MULTILINE)[0])
        assert (settings.stat().st_mode & 0o777, settings.stat().st_uid, settings.stat().st_gid) == (
            0o640,
            0,
            group,
        )
        assert (settings.parent.stat().st_mode & 0o777, settings.parent.stat().st_gid) == (0o750, group)
        assert (machine / "var/lib/broadcastd").stat().st_uid != 0


def test_run_again_it_changes_nothing(machine: Path) -> None:
    before = files(machine)
    said = install(machine)
    assert "is this one already" in said
    assert "stays as it is" in said
    assert files(machine) == before


def test_once_the_settings_are_usable_it_says_how_to_start(machine: Path) -> None:
    settings = machine / "etc/broadcastd/broadcastd.toml"
    text = settings.read_text(encoding="utf-8")
    dropin = machine / "etc/systemd/system/broadcastd.socket.d/address.conf"
    try:
        filled_in = text.replace("@db.example.com", "@db.site").replace(TEMPLATE, "T1")
        settings.write_text(filled_in.replace("port = 9090", "port = 9190"), encoding="utf-8")
        said = install(machine)
        assert "systemctl enable --now broadcastd.socket broadcastd.service broadcastd-monitor.timer" in said
        assert "\nListenStream=\nListenStream=127.0.0.1:9190\n" in dropin.read_text()
        settings.write_text(filled_in + "\n[server]\n", encoding="utf-8")
        assert "is not valid TOML" in install(machine)
    finally:
        settings.write_text(text, encoding="utf-8")
    install(machine)
    assert not dropin.exists()


def test_a_further_daemon(machine: Path) -> None:
    assert "--port N says where it listens" in install(machine, "--instance", "shop", code=2)
    said = install(machine, "--instance", "shop", "--port", "9290")
    assert "broadcastd@shop.service" in said
    settings = tomllib.loads((machine / "etc/broadcastd/shop.toml").read_text(encoding="utf-8"))
    assert settings["ledger"]["url"] == "sqlite:////var/lib/broadcastd/shop/broadcastd.db"
    dropin = machine / "etc/systemd/system/broadcastd@shop.socket.d/address.conf"
    assert "ListenStream=127.0.0.1:9290" in dropin.read_text()
    install(machine, "--instance", "shop", "--uninstall")
    assert not dropin.exists()
    assert (machine / "etc/broadcastd/shop.toml").exists()
    (machine / "etc/broadcastd/shop.toml").unlink()
    assert command(machine, "--version"), "the first one is untouched"


def test_without_systemd_the_settings_can_be_started_and_cron_is_silent(machine: Path) -> None:
    path, rotation = machine / "etc/broadcastd/cron.toml", machine / "etc/logrotate.d/broadcastd"
    options = ("--without-systemd", "--instance", "cron", "--port", "9390")
    try:
        install(machine, *options)
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        background, monitor = settings["background"], settings["monitor"]
        assert background["user"] == "broadcastd"
        assert background["pid_file"] == "/run/broadcastd/cron.pid"
        assert background["log_file"] == "/var/log/broadcastd/cron.log"
        restart = "/usr/local/bin/broadcastd restart -c /etc/broadcastd/cron.toml"
        assert " ".join(monitor["restart"]) == restart
        assert "runuser -u broadcastd" in rotation.read_text(encoding="utf-8")
        text = path.read_text(encoding="utf-8").replace("@db.example.com", "@db.site").replace(TEMPLATE, "T1")
        path.write_text(text, encoding="utf-8")
        said = install(machine, *options)
        lines = [line.split() for line in said.splitlines() if line.startswith(("  @reboot", "  * * *"))]
        assert [line[-1] for line in lines] == [">/dev/null"] * 2
        path.write_text(text.replace('user = "broadcastd"', 'user = ""'), encoding="utf-8")
        assert 'pid_file = "/run/broadcastd/cron.pid"' in install(machine, *options)
    finally:
        path.unlink(missing_ok=True)
        rotation.unlink(missing_ok=True)


def test_uninstalled_the_settings_and_the_ledger_stay(machine: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(machine, root, symlinks=True)
    ledger = root / "var/lib/broadcastd/broadcastd.db"
    ledger.write_bytes(b"a ledger")
    said = install(root, "--uninstall")
    assert "Kept: the settings in /etc/broadcastd, the ledger in /var/lib/broadcastd" in said
    assert ledger.exists()
    left = {name for name, (mode, _) in files(root).items() if not mode & 0o40000}
    assert left == {"etc/broadcastd/broadcastd.toml", "var/lib/broadcastd/broadcastd.db"}
    assert not (root / "opt/broadcastd").exists()


def test_what_it_refuses(tmp_path: Path) -> None:
    assert "unknown option --nonsense" in install(tmp_path, "--nonsense", code=2)
    assert "absolute folder" in install(tmp_path, "--prefix", "opt", code=2)
    assert "small letters" in install(tmp_path, "--instance", "../x", code=2)
    assert "1 to 65533" in install(tmp_path, "--port", "http", code=2)
    (tmp_path / "opt/other").mkdir(parents=True)
    assert "not of this program" in install(tmp_path, "--prefix", "/opt/other", code=1)
    assert (tmp_path / "opt/other").exists()


@pytest.mark.long
def test_an_upgrade_keeps_the_old_program_until_the_new_one_has_read_the_settings(tmp_path: Path) -> None:
    root, checkout = tmp_path / "machine", tmp_path / "checkout"
    install(root)
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    version = checkout / "broadcastd/__init__.py"
    version.write_text(version.read_text().replace('"0.1.0"', '"0.2.0"'))
    settings = root / "etc/broadcastd/broadcastd.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text + "\n[nonsense]\n", encoding="utf-8")

    assert "the old one goes on" in install(root, checkout=checkout, code=1)
    assert "0.1.0" in command(root, "--version")
    settings.write_text(text, encoding="utf-8")
    install(root, checkout=checkout)
    assert "0.2.0" in command(root, "--version")
    assert (root / "opt/broadcastd.previous/bin/broadcastd").exists()
