"""Settings that change while the real daemon runs: what is in force at once, what waits, what is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import sqlite_site
from bed.wire import RawClient

from broadcastd.errors import NoDaemonError
from broadcastd.wire import dial

CUSTOM = """
[accounts.default.custom]
text = "before: {content}"
"""

OTHER = """
[accounts.other]
channels = ["custom"]
[accounts.other.audience]
url = "sqlite:///other.db"
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        yield endpoint


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, endpoint: CountingEndpoint) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("reload")
    site = sqlite_site(folder / "site.db", 10)
    with daemon_process(folder, endpoint.url, site, more=CUSTOM) as daemon:
        yield daemon


@pytest.fixture
def edited(daemon: DaemonProcess) -> Iterator["Edited"]:
    """The settings' text, as it was before each test; put back and in force again after it."""
    text = daemon.settings.read_text(encoding="utf-8")
    yield Edited(daemon, text)
    daemon.settings.write_text(text, encoding="utf-8")
    found = daemon.call({"op": "reload"})
    if found.get("error") == "unauthorized":
        os.kill(_pid(daemon), signal.SIGHUP)
        eventually(lambda: daemon.call({"op": "ping"})["ok"])


def _pid(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    return daemon.process.pid


class Edited:
    """Changes the file."""

    def __init__(self, daemon: DaemonProcess, text: str) -> None:
        self._daemon = daemon
        self._text = text

    def to(self, *changes: tuple[str, str]) -> None:
        text = self._text
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        self._daemon.settings.write_text(text, encoding="utf-8")

    def with_server(self, line: str) -> None:
        self.to(("[http]", f"{line}\n[http]"))

    def reload(self) -> dict[str, Any]:
        reply = self._daemon.call({"op": "reload"})
        assert reply["ok"], reply
        return reply


def test_limits_of_the_port_change_for_open_connections_too(daemon: DaemonProcess, edited: Edited) -> None:
    long = {"content": "x" * 700, "key": "long", "dry_run": True}
    with RawClient(daemon.port) as client:
        assert client.ask(long)["ok"]
        edited.with_server("max_frame_bytes = 500\nmax_connections = 2")
        found = edited.reload()
        assert sorted(found["changed"]) == ["server.max_connections", "server.max_frame_bytes"]
        assert found["needs_restart"] == []
        assert client.ask(long)["error"] == "frame_too_large"
    with RawClient(daemon.port) as idle:
        assert idle.ask({"op": "ping"})["ok"]
        with RawClient(daemon.port) as second, RawClient(daemon.port) as third:
            assert second.ask({"op": "ping"})["ok"]
            assert third.ask({"op": "ping"})["ok"]
            assert idle.hung_up()  # two have a place: who has been idle longest gives way
    assert edited.reload()["changed"] == []  # nothing is changed twice


def test_rate_and_texts_change_for_the_jobs_to_come(
    daemon: DaemonProcess, endpoint: CountingEndpoint, edited: Edited
) -> None:
    # What an operator has changed by hand is left alone where the file has not changed.
    assert daemon.call({"op": "rate", "channel": "template", "per_second": 7})["ok"]
    edited.to(
        ('text = "before: {content}"', 'text = "after: {content}"\nrate_per_s = 100\nmax_in_flight = 3')
    )
    found = edited.reload()
    keys = ("max_in_flight", "rate_per_s", "text")
    assert sorted(found["changed"]) == [f"accounts.default.custom.{key}" for key in keys]
    lanes = daemon.call({"op": "rate"})["accounts"]["default"]
    assert (lanes["custom"]["rate_per_s"], lanes["custom"]["max_in_flight"]) == (100, 3)
    assert lanes["template"]["rate_per_s"] == 7
    job = daemon.call({"content": "reloaded", "key": "texts"})["job"]
    assert daemon.wait_done(job)["books"]["sent"] == 10
    texts = [body["text"]["content"] for body in endpoint.bodies if "reloaded" in json.dumps(body)]
    assert texts == ["after: reloaded"] * 10


def test_a_token_changes_without_a_restart(daemon: DaemonProcess, edited: Edited) -> None:
    with RawClient(daemon.port) as client:
        edited.with_server('token = "new-one"')
        assert edited.reload()["changed"] == ["server.token"]
        assert client.ask({"op": "ping"})["error"] == "unauthorized"
        assert client.ask({"op": "ping", "token": "new-one"})["ok"]
    assert "new-one" not in daemon.log


def test_the_log_level_changes_for_loggers_in_use(daemon: DaemonProcess, edited: Edited) -> None:
    edited.to(("[ledger]", '[log]\nlevel = "error"\n[ledger]'))
    assert edited.reload()["changed"] == ["log.level"]
    before = len(daemon.events("job_accepted"))
    assert daemon.call({"content": "silent", "key": "silent"})["ok"]
    assert daemon.call({"content": "", "key": "silent"})["error"] == "bad_content"
    assert len(daemon.events("job_accepted")) == before
    edited.to()
    assert edited.reload()["changed"] == ["log.level"]
    assert daemon.call({"content": "heard", "key": "heard"})["ok"]
    assert len(daemon.events("job_accepted")) == before + 1


def test_what_needs_a_restart_is_named_and_the_rest_is_in_force(
    daemon: DaemonProcess, edited: Edited
) -> None:
    edited.to(
        ("[http]", "quiet_ms = 50\n[http]"),
        ("[pool]", "[pool]\ntasks = 7"),
        (f"port = {daemon.port}", "port = 1"),
        (
            "[accounts.default.http]",
            f"{OTHER}[accounts.default.http]",
        ),
    )
    for changed in (["server.quiet_ms"], []):
        found = edited.reload()
        assert found["changed"] == changed
        assert found["needs_restart"] == ["server.port", "pool.tasks", "accounts.other"]
    assert daemon.call({"op": "info"})["tasks"]["all"] == 60


def test_live_and_waiting_settings_that_do_not_go_together_are_refused(
    tmp_path: Path, endpoint: CountingEndpoint
) -> None:
    # An address that no other test's callers come from, as they may be from any of 0.0.0.0.
    host = "127.0.0.2"
    server = f'host = "{host}"\ntoken = "t"'
    daemon = DaemonProcess(tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 10), server=server)

    def call(frame: dict[str, Any]) -> dict[str, Any]:
        try:
            return dial.call(host, daemon.port, frame)
        except NoDaemonError:
            return {}

    try:
        daemon.launch()
        eventually(lambda: call({"op": "ping", "token": "t"}), what="it answers")
        text = daemon.settings.read_text()
        daemon.settings.write_text(text.replace(server, 'host = "127.0.0.1"'))
        reply = call({"op": "reload", "token": "t"})
        assert reply["error"] == "bad_settings"
        assert "server.token" in reply["message"]
        # It still listens beyond loopback: the token must stay.
        assert call({"op": "ping"})["error"] == "unauthorized"
    finally:
        daemon.close()


def test_a_broken_file_changes_nothing_and_says_why(daemon: DaemonProcess, edited: Edited) -> None:
    edited.to(("[http]", "max_frame_bytes = 500\nmax_connections = 0\n[http]"))
    reply = daemon.call({"op": "reload"})
    assert (reply["error"], reply["retry"]) == ("bad_settings", False)
    assert reply["message"].startswith("nothing is changed: ")
    assert "server.max_connections: got 0" in reply["message"]
    assert daemon.call({"content": "x" * 700, "dry_run": True})["ok"]
    command = [sys.executable, "-m", "broadcastd", "reload", "--port", str(daemon.port)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=daemon.folder.parent, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("broadcastd: nothing is changed: ")
    os.kill(_pid(daemon), signal.SIGHUP)
    eventually(lambda: len(daemon.events("settings_not_reloaded")) >= 3, what="SIGHUP says it in the log")
    assert daemon.call({"op": "ping"})["ok"]


def test_sighup_reloads_and_the_command_says_what_changed(daemon: DaemonProcess, edited: Edited) -> None:
    edited.with_server("idle_timeout_s = 123")
    before = len(daemon.events("settings_reloaded"))
    os.kill(_pid(daemon), signal.SIGHUP)
    eventually(lambda: len(daemon.events("settings_reloaded")) > before, what="it has reloaded")
    assert daemon.events("settings_reloaded")[-1]["changed"] == ["server.idle_timeout_s"]
    edited.with_server("idle_timeout_s = 124\nhost = 'localhost'")
    command = [sys.executable, "-m", "broadcastd", "reload", "-c", str(daemon.settings)]
    command += ["--host", "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "changed        server.idle_timeout_s\nneeds restart  server.host\n"
    assert dial.call("127.0.0.1", daemon.port, {"op": "ping"})["ok"]
