"""The commands as an operator types them, and what they say when something is wrong."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.mariadb import PASSWORD, PrivateMariaDb
from bed.ports import free_port
from bed.site import sqlite_site


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("cli")
    with (
        counting_endpoint() as endpoint,
        daemon_process(folder, endpoint.url, sqlite_site(folder / "site.db", 30)) as daemon,
    ):
        yield daemon


def broadcastd(*arguments: str | Path, cwd: Path | None = None, code: int = 0, **environment: str) -> Any:
    """Run a command; its finished process. No command may ever print a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "broadcastd", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, cwd=cwd, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done


def test_send_watch_job_and_jobs(daemon: DaemonProcess) -> None:
    config = ("-c", daemon.settings)
    sent = json.loads(
        broadcastd("send", "求購 from the shell", "--key", "sh-1", "--ref", "9", "--json", *config).stdout
    )
    assert sent["state"] == "accepted"
    watched = broadcastd("watch", sent["job"], *config).stdout
    assert "30 = 30 custom + 0 rejected + 0 failed + 0 unknown + 0 skipped" in watched
    assert "30 custom" in broadcastd("job", sent["job"], *config).stdout
    listed = broadcastd("jobs", *config).stdout
    assert sent["job"] in listed
    assert "sh-1" in listed
    assert json.loads(broadcastd("job", sent["job"], "--json", *config).stdout)["books"]["sent"] == 30
    assert "repeated" in broadcastd("send", "求購 from the shell", "--key", "sh-1", *config).stdout
    watched_json = broadcastd("watch", sent["job"], "--json", *config).stdout.splitlines()
    assert json.loads(watched_json[-1])["state"] == "done"


def test_dry_run_and_test_send(daemon: DaemonProcess) -> None:
    config = ("-c", daemon.settings)
    assert "would ask 30 recipients" in broadcastd("send", "x", "--dry-run", *config).stdout
    reply = json.loads(broadcastd("send", "x", "--to", "oA", "--to", "oB", "--json", *config).stdout)
    assert reply["test"] is True


def test_ping_and_info(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    assert f"pid {daemon.process.pid}" in broadcastd("ping", "-c", daemon.settings).stdout
    assert "of 60 busy" in broadcastd("info", "-c", daemon.settings).stdout
    assert json.loads(broadcastd("ping", "--port", str(daemon.port), "--json").stdout)["ok"] is True


def test_a_refusal_is_one_line_and_code_5(daemon: DaemonProcess) -> None:
    done = broadcastd("job", "nobody", "-c", daemon.settings, code=5)
    assert done.stderr == "broadcastd: unknown_job: no job 'nobody' in the ledger\n"
    broadcastd("send", "", "-c", daemon.settings, code=5)


def test_no_daemon_is_one_line_and_code_3() -> None:
    done = broadcastd("ping", "--port", str(free_port()), code=3)
    assert done.stderr.startswith("broadcastd: no daemon answers on 127.0.0.1:")
    assert done.stderr.count("\n") == 1


def test_a_busy_port_names_its_holder_and_the_setting(daemon: DaemonProcess, tmp_path: Path) -> None:
    text = daemon.settings.read_text().replace("ledger.db", str(tmp_path / "other.db"))
    (tmp_path / "b.toml").write_text(text)
    done = broadcastd("run", "-c", tmp_path / "b.toml", code=1)
    assert daemon.process is not None
    last = done.stderr.splitlines()[-1]
    assert f"(pid {daemon.process.pid})" in last
    assert "server.port" in last
    assert "Prometheus and Cockpit" in last


def test_a_second_daemon_on_one_ledger_is_refused(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    done = broadcastd("run", "-c", daemon.settings, code=1, BROADCASTD_SERVER__PORT=str(free_port()))
    assert f"in use by another broadcastd, pid {daemon.process.pid}" in done.stderr.splitlines()[-1]


def test_run_without_settings_says_how_to_get_some(tmp_path: Path) -> None:
    done = broadcastd("run", cwd=tmp_path, code=4)
    assert "broadcastd config init" in done.stderr


def test_config_init_check_and_show(tmp_path: Path) -> None:
    assert "broadcastd.toml written" in broadcastd("config", "init", cwd=tmp_path).stdout
    path = tmp_path / "broadcastd.toml"
    assert path.stat().st_mode & 0o077 == 0
    assert tomllib.loads(path.read_text())["pool"]["tasks"] == 60
    assert "exists already" in broadcastd("config", "init", cwd=tmp_path, code=4).stderr
    broadcastd("config", "init", "--force", cwd=tmp_path)
    left = broadcastd("config", "check", cwd=tmp_path).stdout
    assert "accounts.default.audience.url, accounts.default.template.template_id" in left
    path.write_text(path.read_text().replace("db.example.com", "db.site").replace("REPLACE-WITH-YOUR-", ""))
    assert "fine; accounts: default" in broadcastd("config", "check", cwd=tmp_path).stdout
    shown = broadcastd("config", "show", cwd=tmp_path, BROADCASTD_POOL__TASKS="7").stdout
    assert "pool.tasks = 7" in shown
    assert "user:password" not in shown
    assert json.loads(broadcastd("config", "show", "--json", cwd=tmp_path).stdout)["server"]["port"] == 9090


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("[server]\nport = 99999", "server.port: got 99999"),
        ("[server]\nprot = 1", "server.prot: unknown key"),
        ('[server]\nhost = "0.0.0.0"', "server.token"),
        ("[server", "not valid TOML"),
        (
            '[accounts.default.audience]\nurl = "oracle://u:hidden@h/d"',
            "mysql://user:password@host:3306/database",
        ),
        ('[ledger]\nurl = "postgres://x"', "sqlite:///FILE"),
        ('[pool]\ntasks = "many"', "pool.tasks: got 'many'"),
    ],
)
def test_settings_that_cannot_be_used_name_the_key(tmp_path: Path, wrong: str, says: str) -> None:
    path = tmp_path / "b.toml"
    audience = "" if "audience" in wrong else '[accounts.default.audience]\nurl = "sqlite:///s.db"\n'
    channels = '[accounts.default]\nchannels = ["custom"]\n'
    path.write_text(f"{channels}{audience}{wrong}\n")
    done = broadcastd("config", "check", "-c", path, code=4)
    assert says in done.stderr
    assert "hidden" not in done.stderr


def test_ledger_init(tmp_path: Path, daemon: DaemonProcess) -> None:
    text = daemon.settings.read_text()
    (tmp_path / "b.toml").write_text(text)
    assert "made" in broadcastd("ledger", "init", "-c", tmp_path / "b.toml").stdout
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0
    assert "already" in broadcastd("ledger", "init", "-c", tmp_path / "b.toml").stdout


def test_ledger_init_in_mariadb(tmp_path: Path, mariadb: PrivateMariaDb) -> None:
    database = mariadb.new_database()
    (tmp_path / "url").write_text(mariadb.url_of(database))
    path = tmp_path / "b.toml"
    path.write_text(
        '[ledger]\nurl_file = "url"\n[accounts.default]\nchannels = ["custom"]\n'
        '[accounts.default.audience]\nurl = "sqlite:///s.db"\n'
    )
    place = f"mysql://127.0.0.1:{mariadb.port}/{database}"
    assert broadcastd("ledger", "init", "-c", path).stdout == f"{place}: made\n"
    assert broadcastd("ledger", "init", "-c", path).stdout == f"{place}: a ledger already\n"
    shown = broadcastd("config", "show", "-c", path).stdout
    assert f"ledger.url = 'mysql://***@127.0.0.1:{mariadb.port}/{database}'" in shown
    assert PASSWORD not in shown


def test_version_help_and_wrong_usage() -> None:
    assert "broadcastd, version" in broadcastd("--version").stdout
    helped = broadcastd("--help").stdout
    for command in ("run", "send", "watch", "config", "sandbox"):
        assert command in helped
    broadcastd("nonsense", code=2)
    broadcastd("send", code=2)


def test_an_output_that_is_full_is_said_in_a_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "broadcastd", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["broadcastd: [Errno 28] No space left on device"]
