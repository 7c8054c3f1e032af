"""What the doctor makes of modes, versions, limits, units and alerts. Facts in, findings out."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from broadcastd import __version__
from broadcastd.doctor.examination import Told, chosen, passed
from broadcastd.doctor.files import Person, judge_secret
from broadcastd.doctor.finding import Verdict, fail, ok, skipped, warn
from broadcastd.doctor.hiding import Hiding, secrets_of
from broadcastd.doctor.machine import judge_open_files, judge_sqlite, needed_files
from broadcastd.doctor.ports import judge_daemon, judge_other, judge_port
from broadcastd.doctor.service import (
    judge_alerts,
    judge_cron,
    judge_timer,
    judge_unit,
    read_properties,
    unit_in,
)
from broadcastd.doctor.subject import Daemon, Line
from broadcastd.server_settings import ServerSettings
from broadcastd.settings import Settings

FILE = Path("/etc/broadcastd/broadcastd.toml")
ME, OTHER, GROUP = 1000, 1001, 50


def there(mode, uid=ME, gid=GROUP):
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "private", "mend"),
    [
        (0o600, False, None), (0o400, False, None), (0o640, True, None),
        (0o644, True, f"chmod o= {FILE}"),
        (0o601, False, f"chmod o= {FILE}"),
        (0o660, True, f"chmod g-w {FILE}"),
    ],
)  # fmt: skip
def test_who_may_read_a_secret(mode, private, mend):
    found = judge_secret(FILE, there(mode), private)
    if mend is None:
        assert found is None
    else:
        assert (found.verdict, found.mend) == (Verdict.FAIL, (mend,))
        assert f"{mode:04o}" in found.seen


def test_in_a_folder_that_others_cannot_enter_a_mode_lets_nobody_in():
    assert judge_secret(FILE, there(0o644), group_is_private=True, can_be_reached=False) is None


def test_a_group_of_several_may_be_meant():
    found = judge_secret(FILE, there(0o640), group_is_private=False)
    assert found is not None
    assert (found.verdict, found.mend) == (Verdict.WARN, (f"unless that is meant: chmod g= {FILE}",))


@pytest.mark.parametrize(
    ("uid", "groups", "mode", "may"),
    [(0, (), 0o000, True), (ME, (), 0o400, True), (ME, (GROUP,), 0o040, False), (OTHER, (GROUP,), 0o040,
     True),
     (OTHER, (), 0o640, False), (OTHER, (), 0o604, True)],
)  # fmt: skip
def test_whom_a_mode_lets(uid, groups, mode, may):
    assert Person(uid, frozenset(groups)).may(4, there(mode)) is may


def test_an_old_sqlite_fails():
    assert judge_sqlite((3, 40, 1)) is None
    assert "3.37.2: the ledger needs 3.38.0" in judge_sqlite((3, 37, 2)).seen


def test_open_files():
    settings = Settings.model_validate(
        {"server": {"max_connections": 100}, "pool": {"tasks": 2, "sends_per_task": 5},
         "accounts": {"a": {"channels": ["custom"], "audience": {"url": "sqlite:///x", "pool_size": 3}}}}
    )  # fmt: skip
    assert needed_files(settings) == 100 + 10 + 6 + 200
    assert judge_open_files(316, 316, None).verdict is Verdict.OK
    short = judge_open_files(315, 316, 7)
    assert (short.verdict, short.mend) == (
        Verdict.WARN, ("in the unit: LimitNOFILE=632; from a shell: ulimit -n 632",)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "at_work", "verdict", "words"),
    [
        (Line.ANSWERS, None, Verdict.OK, "broadcastd 9.9, pid 7, answers"),
        (Line.REFUSES, None, Verdict.WARN, "refuses: wrong token"),
        (Line.FOREIGN, None, Verdict.FAIL, "held by nginx (pid 8), which is not broadcastd"),
        (Line.HANGS, None, Verdict.FAIL, "nginx (pid 8) listens, and does not answer within 4 s"),
        (Line.SILENT, 9, Verdict.FAIL, "nobody listens, yet the process 9 has the ledger"),
        (Line.SILENT, None, Verdict.WARN, "the daemon is not running"),
    ],
)  # fmt: skip
def test_the_port(line, at_work, verdict, words):
    daemon = Daemon(line, {"version": "9.9", "pid": 7}, "wrong token")
    found = judge_port(ServerSettings(), daemon, "nginx (pid 8)", at_work)
    assert found.verdict is verdict
    assert words in found.seen
    assert found.seen.startswith("127.0.0.1:9090")
    assert bool(found.mend) is (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("runs", "holder", "verdict"),
    [(True, "x", Verdict.OK), (True, "", Verdict.FAIL), (False, "", Verdict.OK), (False, "x", Verdict.FAIL)],
)
def test_another_port(runs, holder, verdict):
    assert judge_other("callback 127.0.0.1:9092", runs, holder).verdict is verdict


def reply(**changes):
    return {
        "version": __version__, "uptime_s": 5.0, "ledger": "ok", "accepts": "yes",
        "jobs": {"open": 3, "held": 0}, "accounts": {"shop": {"wechat": "ok", "audience": "ok"}}, **changes,
    }  # fmt: skip


def test_a_daemon_that_is_well():
    (found,) = judge_daemon(reply())
    assert (found.verdict, found.mend) == (Verdict.OK, ())


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"version": "0.0.1"}, Verdict.WARN, f"it runs version 0.0.1, and {__version__} is installed"),
        ({"ledger": "the disk is full"}, Verdict.FAIL, "the disk is full"),
        ({"accepts": "draining"}, Verdict.WARN, "it drains"),
        ({"jobs": {"open": 3, "held": 2}}, Verdict.WARN, "2 of its 3 open jobs are held"),
        ({"accounts": {"shop": {"wechat": "held", "audience": "ok"}}}, Verdict.WARN, "shop, wechat: held"),
    ],
)  # fmt: skip
def test_what_a_daemon_says_of_itself(changes, verdict, words):
    (found,) = judge_daemon(reply(**changes))
    assert found.verdict is verdict
    assert words in found.seen
    assert found.mend


SHOWN = {
    "LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "WatchdogUSec": "30s",
    "ActiveEnterTimestamp": "Tue 2026-11-24 10:00:00 CST", "NRestarts": "0", "MainPID": "7",
    "TriggeredBy": "",
}  # fmt: skip


def test_a_unit_that_is_well():
    text = "\n".join(f"{name}={value}" for name, value in SHOWN.items()) + "\n"
    (found,) = judge_unit("broadcastd.service", read_properties(text), 7)
    assert found.verdict is Verdict.OK
    assert "active since Tue 2026-11-24 10:00:00 CST, watchdog 30s" in found.seen


@pytest.mark.parametrize(
    ("changes", "verdict", "mend"),
    [
        ({"LoadState": "not-found"}, Verdict.WARN, "scripts/install-service"),
        ({"UnitFileState": "disabled"}, Verdict.WARN, "systemctl enable broadcastd.service"),
        ({"ActiveState": "failed"}, Verdict.FAIL, "journalctl -u broadcastd.service"),
        ({"ActiveState": "inactive"}, Verdict.WARN, "systemctl start broadcastd.service"),
        ({"MainPID": "8"}, Verdict.FAIL, "kill 7"),
        ({"WatchdogUSec": "0"}, Verdict.WARN, "WatchdogSec=30"),
        ({"NeedDaemonReload": "yes"}, Verdict.WARN, "systemctl daemon-reload"),
    ],
)  # fmt: skip
def test_a_unit_that_is_not(changes, verdict, mend):
    (found,) = judge_unit("broadcastd.service", {**SHOWN, **changes}, 7)
    assert found.verdict is verdict
    assert mend in found.mend[0]


def test_a_unit_that_its_socket_starts_need_not_be_enabled():
    (found,) = judge_unit(
        "broadcastd.service", {**SHOWN, "UnitFileState": "disabled", "TriggeredBy": "broadcastd.socket"}, None
    )
    assert found.verdict is Verdict.OK


def test_the_unit_of_a_process():
    assert unit_in("0::/system.slice/broadcastd.service\n") == "broadcastd.service"
    assert (
        unit_in("0::/system.slice/system-broadcastd.slice/broadcastd@b.service\n") == "broadcastd@b.service"
    )
    assert unit_in("0::/\n") is None


def test_the_monitor():
    assert judge_timer({"ActiveState": "active"}).verdict is Verdict.OK
    assert judge_timer({"ActiveState": "inactive"}).verdict is Verdict.FAIL
    line = "* * * * * root /usr/local/bin/broadcastd monitor -c /etc/broadcastd/broadcastd.toml"
    assert judge_cron(["# x", line]).verdict is Verdict.OK
    assert judge_cron([f"#{line}", "* * * * * php task_worker.php"]).verdict is Verdict.WARN
    assert judge_cron([]).mend


def test_alerts_show_no_secret():
    assert judge_alerts([]).verdict is Verdict.WARN
    told = judge_alerts(["mailtos://ops:hunter22@smtp.example.com", "wxteams://t0ken"])
    assert told.verdict is Verdict.OK
    assert "2 addresses are told (mailtos, wxteams)" in told.seen
    assert "hunter22" not in told.seen


def test_the_secrets_of_settings():
    settings = Settings.model_validate(
        {"server": {"token": "t0ken"}, "ledger": {"url": "mysql://u:pa%40ss@db/l"},
         "accounts": {"a": {"channels": ["custom"], "app_secret": "s3cret",
         "audience": {"url": "sqlite:///x"}}}}
    )  # fmt: skip
    assert set(secrets_of(settings)) == {"t0ken", "s3cret", "mysql://u:pa%40ss@db/l", "pa%40ss", "pa@ss"}


def test_secrets_are_taken_out_of_whatever_is_found():
    settings = Settings.model_validate(
        {"server": {"token": "t0ken-of-frames"},
         "accounts": {"a": {"channels": ["custom"], "audience": {"url": "mysql://u:pa%40ssword@db/site"}}}}
    )  # fmt: skip
    hiding = Hiding(
        SimpleNamespace(settings=settings, accounts=[SimpleNamespace(known_token="ACCESS-70ken")])
    )
    found = hiding.without_secrets(fail("t0ken-of-frames, pa@ssword", "pa%40ssword", "ACCESS-70ken of site"))
    assert found == fail("***, ***", "***", "*** of site")


def test_a_first_word_chooses_all_that_begin_with_it():
    names = [check.name for check in chosen(["ledger", "token"])]
    assert names == ["ledger", "ledger-copy", "ledger-disk", "ledger-pages", "ledger-server", "token"]
    assert [check.name for check in chosen(["ledger-disk"])] == ["ledger-disk"]
    assert chosen(["ledg"]) == []
    every = [check.name for check in chosen([])]
    assert len(set(every)) == len(every)


def test_only_a_failure_fails():
    told = [Told("x", None, finding) for finding in (ok("a"), warn("b", "c"), skipped("d"))]
    assert passed(told)
    assert not passed([*told, Told("y", None, fail("e", "f"))])
