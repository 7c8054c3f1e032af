"""`broadcastd doctor` as an operator types it: a healthy installation, and one with everything wrong."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.commands import finished
from bed.daemon import DaemonProcess
from bed.mariadb import PASSWORD, PrivateMariaDb
from bed.ports import free_port
from bed.sandboxes import SandboxProcess, sandbox_process
from bed.site import TOKEN, mariadb_site, openid

from broadcastd.cli.doctor import doctor
from broadcastd.doctor.checks import CHECKS

PAGE = Path(__file__).parents[2].joinpath("docs/monitoring.md").read_text(encoding="utf-8")
FOLLOWERS = 3000
FRAME_TOKEN = "t0ken-of-the-frames"
SECRET = "s3cret-of-the-account"
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
CALLBACK = f'[accounts.default.callback]\ntoken = "Callback70ken"\naes_key = "{AES_KEY}"'
SECRETS = (PASSWORD, TOKEN, FRAME_TOKEN, SECRET, AES_KEY, "Callback70ken")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with sandbox_process("--token", TOKEN) as sandbox:
        yield sandbox


@pytest.fixture
def daemon(tmp_path: Path, mariadb: PrivateMariaDb, sandbox: SandboxProcess) -> Iterator[DaemonProcess]:
    sandbox.control("reset", {})
    mariadb_site(mariadb, FOLLOWERS)
    callback = f'app_id = "wx5a4db0c500000001"\napp_secret = "{SECRET}"\n{CALLBACK}'
    server = f'token = "{FRAME_TOKEN}"'
    daemon = DaemonProcess(tmp_path, sandbox.url, mariadb.url, account=callback, server=server)
    text = daemon.settings.read_text(encoding="utf-8") + f"\n[callback]\nport = {free_port()}\n"
    daemon.settings.write_text(text, encoding="utf-8")
    daemon.settings.chmod(0o600)
    yield daemon
    daemon.close()


def ask(*arguments: str | Path, code: int, **environment: str) -> str:
    done = finished("doctor", *arguments, environment=environment)
    assert done.returncode == code, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert not [secret for secret in SECRETS if secret in said]
    assert not re.search(r"o0{20}\d+", said), "an openid"
    return said


def findings(text: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(text)["findings"]:
        found.setdefault(one["check"], []).append(one)
    return found


def test_a_healthy_installation(daemon: DaemonProcess, mariadb: PrivateMariaDb) -> None:
    mariadb.run("CREATE INDEX openid ON tp_receiver (openid)")
    daemon.start()
    told = findings(ask("-c", daemon.settings, "--json", code=0))
    assert list(told) == [check.name for check in CHECKS]
    well = {name for name, ones in told.items() if all(one["verdict"] == "ok" for one in ones)}
    assert well >= {
        "settings", "permissions", "folders", "versions", "time-zones", "port", "daemon", "ledger",
        "ledger-copy", "ledger-pages", "audience", "audience-server", "audience-ids", "audience-openids",
        "audience-plan", "audience-now", "callback", "callback-sql", "clock", "token", "quota",
    }  # fmt: skip
    assert "3,000 are eligible" in told["audience-ids"][0]["seen"]
    assert told["audience-ids"][0]["account"] == "default"
    assert told["port"][0]["account"] is None
    assert all(one["mend"] for ones in told.values() for one in ones if one["verdict"] in ("warn", "fail"))
    printed = ask("-c", daemon.settings, "--only", "ledger", "--only", "port", code=0)
    assert re.search(r"^ok      port +127\.0\.0\.1", printed)
    assert "\x1b" not in printed
    assert printed.splitlines()[-1] in (
        "5 ok, 1 skipped",
        "4 ok, 1 warn, 1 skipped",
        "5 ok, 1 warn, 1 skipped",
    )


def test_everything_is_wrong(daemon: DaemonProcess, mariadb: PrivateMariaDb, sandbox: SandboxProcess) -> None:
    mariadb.run(
        "ALTER TABLE tp_receiver MODIFY id INT, DROP PRIMARY KEY;"
        "UPDATE tp_receiver SET id = 20 WHERE id = 22;"
        f"UPDATE tp_receiver SET openid = '{openid(1)}' WHERE id = 30;"
        "UPDATE tp_receiver SET openid = '' WHERE id = 32"
    )
    sandbox.control("behaviour", {"errors": {"api_domain_ip:40164": 1}})
    sandbox.control("quotas", {"custom": 100})
    daemon.settings.chmod(0o620)
    told = findings(ask("-c", daemon.settings, "--json", code=1, BROADCASTD_LEDGER__RESERVE_MB="999999999"))
    wrong = {
        (name, one["verdict"]): " ".join(one["mend"])
        for name, ones in told.items()
        for one in ones
        if one["verdict"] in ("warn", "fail")
    }
    for (name, verdict), mend in {
        ("permissions", "fail"): f"chmod g-w {daemon.settings}",
        ("port", "warn"): "systemctl start broadcastd",
        ("ledger-disk", "fail"): "ledger.keep_days",
        ("audience-ids", "fail"): "let the query yield each row once",
        ("audience-openids", "warn"): "AND openid <> ''",
        ("audience-plan", "warn"): "ALTER TABLE tp_receiver ADD UNIQUE INDEX broadcastd_id (id)",
        ("audience-rights", "warn"): "GRANT SELECT, UPDATE ON site.TABLE",
        ("callback-sql", "warn"): "CREATE INDEX broadcastd_openid ON tp_receiver (openid)",
        ("token", "fail"): "put 127.0.0.1 on the whitelist",
        ("quota", "warn"): "broadcastd quota clear",
        ("alerts", "warn"): "[alerts] urls",
        ("monitor", "warn"): "broadcastd monitor",
    }.items():
        assert mend in wrong.get((name, verdict), f"nothing said of {name}"), name
    printed = ask("-c", daemon.settings, code=1)
    assert f"→ chmod g-w {daemon.settings}" in printed


def test_a_daemon_that_runs_with_other_settings(daemon: DaemonProcess) -> None:
    daemon.start()
    told = findings(
        ask("-c", daemon.settings, "--only", "port", "--json", code=0, BROADCASTD_SERVER__TOKEN="x")
    )
    assert told["port"][0]["verdict"] == "warn"
    assert "refuses" in told["port"][0]["seen"]


def test_no_settings_and_an_unknown_check(tmp_path: Path) -> None:
    assert "broadcastd config init" in ask("-c", tmp_path / "none.toml", "--only", "settings", code=1)
    assert "no check is called nothing; there are settings," in ask("--only", "nothing", code=2)


def test_the_page_has_every_check_and_option() -> None:
    table = PAGE.partition("The checks, in their order:")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == [check.name for check in CHECKS]
    named = set(re.findall(r"^\| `(--[\w-]+)", PAGE, re.MULTILINE))
    assert named == {option for parameter in doctor.params for option in parameter.opts} - {"-c", "--config"}
