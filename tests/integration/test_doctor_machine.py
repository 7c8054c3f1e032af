"""The doctor at files, folders, ports and a ledger in SQLite, none of which it may change."""

import os
import shutil
import socket
import sqlite3
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.doctor import NOWHERE, ask_doctor, finding_of, verdicts_of
from bed.old_ledger import sqlite_ledger
from bed.site import sqlite_site

from broadcastd.doctor.files import Person, identity_folder, judge_folder
from broadcastd.doctor.finding import Verdict
from broadcastd.doctor.subject import Subject
from broadcastd.ledgers import kind_of
from broadcastd.ledgers.inspection import quick_check

OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED
STRANGER = Person(4242, frozenset())


def daemon_in(folder: Path, followers: int = 30, **more: Any) -> DaemonProcess:
    return DaemonProcess(folder, NOWHERE, sqlite_site(folder / "site.db", followers), **more)


def all_of(folder: Path) -> dict[str, bytes]:
    """Every file; of SQLite's shared index only that it is there: readers note themselves in it."""
    files = (one for one in sorted(folder.rglob("*")) if one.is_file())
    return {str(one): b"" if one.name.endswith("-shm") else one.read_bytes() for one in files}


def names_in(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


# -- settings and permissions


def test_settings_that_are_still_as_they_were_written(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("broadcastd/cli/broadcastd.toml").read_text(encoding="utf-8")
    path = tmp_path / "broadcastd.toml"
    path.write_text(text, encoding="utf-8")
    told = ask_doctor(path, "settings")
    assert [one.finding.verdict for one in told] == [FAIL, FAIL]
    assert {"audience.url", "template.template_id"} == {
        one.finding.seen.split("accounts.default.")[1].split()[0] for one in told
    }
    assert "user:password" not in str(told)


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "broadcastd.toml"
    path.write_text('[server]\nport = 99999\n[accounts.a.audience]\nurl = "postgres://u:hidden-w0rd@h/d"\n')
    told = ask_doctor(path)
    found = {one.check: one.finding for one in told}
    assert found["settings"].verdict is FAIL
    assert "server.port" in found["settings"].seen
    assert "broadcastd config check -c" in found["settings"].mend[0]
    assert "hidden-w0rd" not in str(told)
    assert (found["token"].verdict, found["ledger"].verdict) == (SKIPPED, SKIPPED)
    assert (found["versions"].verdict, found["permissions"].verdict) == (OK, OK)


def test_secrets_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken-of-frames")
    (tmp_path / "token").chmod(0o660)  # others cannot enter the folder
    path = daemon_in(tmp_path, server='token_file = "token"').settings
    found = finding_of(path, "permissions")
    assert found.verdict is FAIL
    assert found.mend == (f"chmod g-w {tmp_path / 'token'}",)
    (tmp_path / "token").chmod(0o600)
    assert finding_of(path, "permissions").verdict is OK


def test_folders_of_somebody_else(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    assert judge_folder("ledger", there, Person(os.getuid(), frozenset())) == []
    (found,) = judge_folder("ledger", there, STRANGER)
    assert found.mend == (f"install -d -m 700 -o 4242 {there}",)
    there.chmod(0o777)
    assert judge_folder("ledger", there, STRANGER) == []
    (gone,) = judge_folder("ledger", there / "gone", STRANGER)
    assert "there is no folder" in gone.seen
    assert judge_folder("identity", there / "made/at/the/start", STRANGER) == []


@pytest.mark.parametrize(
    ("given", "uid", "runs", "found"),
    [
        ("identity", 4242, False, ("{folder}/identity", True)), ("off", 4242, False, None),
        ("", 0, False, ("/var/lib/broadcastd-identity", True)),
        ("", 4242, False, ("/.local/state/broadcastd-identity", False)),
        ("", 4242, True, ("{state}/broadcastd-identity", True)),
    ],
)  # fmt: skip
def test_where_a_ledgers_identity_is(
    tmp_path: Path, given: str, uid: int, runs: bool, found: tuple[str, bool] | None
) -> None:
    path = daemon_in(tmp_path).settings
    text = path.read_text().replace('identity_dir = "identity"', f'identity_dir = "{given}"')
    path.write_text(text)
    state = os.environ.get("XDG_STATE_HOME") or f"{Path.home()}/.local/state"
    expected = found and (Path(found[0].format(folder=tmp_path, state=state)), found[1])
    assert identity_folder(Subject(path, offline=True), uid, os.getpid() if runs else None) == expected


# -- the port


@contextmanager
def listening(port: int, answer: bytes | None):
    """Somebody on this port, who answers so; or not at all."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(5)
        if answer is None:
            yield
            return

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_a_port_that_somebody_else_holds(tmp_path: Path) -> None:
    daemon = daemon_in(tmp_path)
    with listening(daemon.port, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        found = finding_of(daemon.settings, "port")
    assert found.verdict is FAIL
    assert f"(pid {os.getpid()}), which is not broadcastd" in found.seen
    with listening(daemon.port, None):
        hangs = finding_of(daemon.settings, "port")
    assert hangs.verdict is FAIL
    assert "does not answer within 4 s" in hangs.seen


def test_a_callbacks_port(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(5)
        text = f'[callback]\nport = {held.getsockname()[1]}\n[accounts.default.callback]\ntoken = "abc"'
        found = finding_of(daemon_in(tmp_path, account=text).settings, "other-ports")
    assert found.verdict is FAIL
    assert f"(pid {os.getpid()})" in found.seen


# -- the ledger


@pytest.mark.parametrize("ends", ["not begun", "stopped", "killed", "at work"])
def test_nothing_is_changed(tmp_path: Path, ends: str) -> None:
    daemon = daemon_in(tmp_path)
    daemon.settings.chmod(0o600)
    try:
        if ends != "not begun":
            daemon.start()
            daemon.call({"op": "pause", "job": daemon.call({"content": "x"})["job"]})
        if ends == "stopped":
            daemon.stop()
        elif ends == "killed":
            daemon.kill()
        # One at work goes on writing: then only that no file is added.
        look = names_in if ends == "at work" else all_of
        before = look(tmp_path)
        told = verdicts_of(ask_doctor(daemon.settings, "ledger", "port", "daemon"))
        assert look(tmp_path) == before
    finally:
        daemon.close()
    assert told["ledger-pages"] is (SKIPPED if ends == "not begun" else OK)
    assert told["ledger-copy"] is (SKIPPED if ends == "not begun" else OK)
    assert (told["port"] is OK) == (ends == "at work")


def test_a_ledger_that_is_a_copy(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    site = sqlite_site(tmp_path / "site.db", 3)
    with daemon_process(original, NOWHERE, site) as daemon:
        daemon.stop()
    shutil.copytree(original, copy)
    found = finding_of(copy / "broadcastd.toml", "ledger-copy")
    assert found.verdict is FAIL
    assert f"it was last used as {original / 'ledger.db'}" in found.seen
    assert "broadcastd ledger adopt" in found.mend[0]
    assert finding_of(original / "broadcastd.toml", "ledger-copy").verdict is OK
    with daemon_process(copy, NOWHERE, site):
        assert finding_of(copy / "broadcastd.toml", "ledger-copy").verdict is FAIL


def made(path: Path) -> Path:
    kind_of("sqlite:").make(f"sqlite:///{path}")
    return path


def test_a_ledger_that_is_damaged(tmp_path: Path) -> None:
    ledger = made(tmp_path / "ledger.db")
    with ledger.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 5)
    path = daemon_in(tmp_path).settings
    found = finding_of(path, "ledger-pages")
    assert found.verdict is FAIL
    assert ".recover" in found.mend[0]
    ledger.write_bytes(b"no database at all" * 1000)
    told = ask_doctor(path, "ledger")
    assert {one.check: one.finding.verdict for one in told if one.finding.verdict is FAIL} == {
        "ledger": FAIL, "ledger-pages": FAIL,
    }  # fmt: skip


def test_a_check_of_pages_that_would_take_long(tmp_path: Path) -> None:
    ledger = made(tmp_path / "ledger.db")
    with sqlite3.connect(ledger) as rows:
        rows.execute(
            "INSERT INTO meta WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            " SELECT 'k' || i, 'v' FROM n"
        )
    rows.close()
    assert quick_check(ledger, 60) == []
    assert quick_check(ledger, 0) is None


def test_an_old_ledger_and_a_newer_one(tmp_path: Path) -> None:
    path = daemon_in(tmp_path).settings
    sqlite_ledger(tmp_path / "ledger.db")
    assert finding_of(path, "ledger").verdict is WARN
    (tmp_path / "ledger.db").unlink()
    with sqlite3.connect(made(tmp_path / "ledger.db")) as rows:
        rows.execute("UPDATE alembic_version SET version_num = '9999'")
    rows.close()
    assert finding_of(path, "ledger").verdict is FAIL


# -- an audience in SQLite


def test_an_audience_in_sqlite(tmp_path: Path) -> None:
    callback = '[accounts.default.callback]\ntoken = "abc"'
    path = daemon_in(tmp_path, account=callback).settings
    assert verdicts_of(ask_doctor(path, "audience", "callback-sql")) == {
        "audience": OK, "audience-server": SKIPPED, "audience-ids": OK, "audience-openids": OK,
        "audience-plan": OK, "audience-now": OK, "audience-rights": SKIPPED, "callback-sql": OK,
    }  # fmt: skip
    (tmp_path / "site.db").unlink()
    found = finding_of(path, "audience")
    assert found.verdict is FAIL
    assert f"ls -l {tmp_path / 'site.db'}" in found.mend[0]


def test_a_full_scan_in_sqlite(tmp_path: Path) -> None:
    path = daemon_in(tmp_path, 3000, more='query = "SELECT DISTINCT id + 0 AS id, openid FROM tp_receiver"')
    found = finding_of(path.settings, "audience-plan")
    assert found.verdict is WARN
    assert "the whole of tp_receiver" in found.seen


def test_now_is_the_present(tmp_path: Path) -> None:
    found = finding_of(daemon_in(tmp_path).settings, "audience-now")
    assert f"{datetime.now(UTC):%Y}" in found.seen
