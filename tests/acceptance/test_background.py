"""`broadcastd start`, `stop`, `restart` and `status`: the real daemon in the real background."""

import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bed.background import BackgroundDaemon, background_daemon, is_gone
from bed.certificates import Authority
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually, free_port
from bed.site import openid, sqlite_site
from bed.watched import look, watch
from bed.wire import RawClient

import broadcastd

FOLLOWERS = 400


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint(latency_s=0.02) as endpoint:
        endpoint.keep_bodies = True
        yield endpoint


@pytest.fixture
def daemon(tmp_path: Path, endpoint: CountingEndpoint) -> Iterator[BackgroundDaemon]:
    site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
    with background_daemon(tmp_path, endpoint.url, site) as daemon:
        yield daemon


def test_it_starts_and_stops_and_says_how_it_is(daemon: BackgroundDaemon) -> None:
    code, found = daemon.status()
    assert (code, found["state"], found["pid"]) == (3, "stopped", None)
    assert f"pid {{}}, port {daemon.port}" in daemon.good("start").replace(str(daemon.pid), "{}")
    assert daemon.call({"op": "ping"})["pid"] == daemon.pid  # it answers at once
    code, found = daemon.status()
    assert (code, found["state"], found["pid"], found["port"]) == (0, "running", daemon.pid, daemon.port)
    assert found["jobs"]["open"] == 0
    said = daemon.run("status")
    assert said.code == 0
    assert f"pid {daemon.pid}, on 127.0.0.1:{daemon.port}, up " in said.text

    proc = Path(f"/proc/{daemon.pid}")
    assert os.getsid(daemon.pid) != os.getsid(0)
    assert os.readlink(proc / "cwd") == "/"
    assert os.readlink(proc / "fd" / "2") == str(daemon.folder / "broadcastd.log")
    assert os.readlink(proc / "fd" / "0") == "/dev/null"
    assert "Umask:\t0027" in (proc / "status").read_text()
    assert "Max core file size        0                    0" in (proc / "limits").read_text()
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"

    pid = daemon.pid
    said = daemon.run("stop")
    assert said.code == 0
    assert said.text.endswith(f"broadcastd has stopped, pid {pid}\n")
    assert is_gone(pid)
    assert not daemon.pid_file.exists()
    assert daemon.status()[0] == 3
    assert daemon.good("stop") == "broadcastd does not run\n"


def test_of_two_starts_at_once_one_wins(daemon: BackgroundDaemon) -> None:
    starts = [daemon.begin("start") for _ in range(3)]
    said = [start.communicate(timeout=60)[0] for start in starts]
    assert sorted(start.returncode for start in starts) == [0, 1, 1], said
    lost = [text for start, text in zip(starts, said, strict=True) if start.returncode]
    for text in lost:
        assert "runs already" in text or "is in use by" in text
    assert daemon.call({"op": "ping"})["pid"] == daemon.pid
    said_now = daemon.run("start")
    assert said_now.code == 1
    assert said_now.text == f"broadcastd: broadcastd, pid {daemon.pid}, runs already ({daemon.pid_file})\n"
    # Its pid file gone, its port and its ledger still tell of it.
    daemon.pid_file.rename(daemon.folder / "moved.pid")
    assert f"is in use by python (pid {_moved(daemon)})" in daemon.run("start").text.replace(
        "python3", "python"
    )
    daemon.good("stop", "--pid-file", daemon.folder / "moved.pid")


def _moved(daemon: BackgroundDaemon) -> str:
    return (daemon.folder / "moved.pid").read_text().strip()


def test_what_kill_9_leaves_is_no_obstacle(daemon: BackgroundDaemon, endpoint: CountingEndpoint) -> None:
    daemon.good("start")
    job = daemon.call({"content": "killed", "key": "k"})["job"]
    eventually(lambda: endpoint.calls > 10, what="sending has begun")
    daemon.kill_it()
    assert daemon.pid_file.exists()
    code, found = daemon.status()
    assert (code, found["state"]) == (1, "dead")
    assert "has died" in daemon.say("status").text
    assert daemon.good("stop") == "broadcastd does not run\n"
    daemon.good("start")
    assert daemon.wait_done(job)["books"]["sent"] == FOLLOWERS


def test_a_hung_one_is_said_to_be_and_can_be_ended(daemon: BackgroundDaemon) -> None:
    daemon.good("start")
    pid = daemon.pid
    os.kill(pid, signal.SIGSTOP)
    code, found = daemon.status()
    assert (code, found["state"], found["pid"]) == (4, "unknown", pid)
    said = daemon.say("stop", "--timeout", 1)
    assert said.code == 1
    assert f"SIGTERM to pid {pid}" in said.text
    assert "`broadcastd stop --now` ends it at once" in said.text
    # As a database server does, which takes the lock from one that hangs.
    daemon.ledger.with_name(f"{daemon.ledger.name}.lock").unlink()
    assert "a daemon that hangs (see port) works on it" in daemon.say("doctor", "--offline").text
    assert daemon.good("stop", "--now") == f"broadcastd has been killed, pid {pid}\n"
    assert is_gone(pid)
    daemon.good("start")


def test_a_restart_and_the_monitors_end_one_that_hangs(daemon: BackgroundDaemon) -> None:
    restart = [sys.executable, "-m", "broadcastd", "restart", "-c", str(daemon.settings)]
    watch(daemon, f"mailto://127.0.0.1:{free_port()}?to=a@b.example", restart=restart, timeout_s=1)
    daemon.good("start")
    pid = daemon.pid
    os.kill(pid, signal.SIGSTOP)
    seen = look(daemon)
    assert seen.exit_code == 0, seen
    assert is_gone(pid)
    assert daemon.call({"op": "ping"})["pid"] == daemon.pid != pid


def test_one_whose_certificate_cannot_be_used_any_more_can_be_stopped(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server", "127.0.0.1")
    keys = 'tls_cert = "server.pem"\ntls_key = "server.key"'
    daemon = BackgroundDaemon(tmp_path, "http://127.0.0.1:9", sqlite_site(tmp_path / "s.db", 1), server=keys)
    try:
        daemon.good("start")
        (tmp_path / "server.pem").unlink()
        code, found = daemon.status()
        assert (code, found["pid"]) == (4, daemon.pid)
        assert "it cannot be asked: server.tls_cert:" in found["why"]
        assert "server.pem cannot be used: No such file" in daemon.good("stop")
        assert daemon.say("status").code == 4  # it may well run by other means: nobody can tell
    finally:
        daemon.close()


def test_a_stop_lets_end_what_is_under_way_and_says_how_far_it_is(
    daemon: BackgroundDaemon, endpoint: CountingEndpoint
) -> None:
    daemon.good("start")
    endpoint.latency_s = 2.5
    job = daemon.call({"content": "slow", "key": "k"})["job"]
    eventually(lambda: daemon.call({"op": "info"})["in_flight"] >= 10, what="sending has begun")
    lines = daemon.good("stop").splitlines()
    assert re.fullmatch(
        r"stopping: [2-6]\d tasks busy, [1-9]\d+ sends in flight; 1 job goes on at the next start", lines[0]
    )
    assert lines[-2] == "drained: 0 tasks busy, 0 sends in flight; 1 job goes on at the next start"
    received = endpoint.calls
    endpoint.latency_s = 0
    daemon.good("start")
    books = daemon.wait_done(job)["books"]
    assert (books["sent"], books["in_doubt"]) == (FOLLOWERS, 0)
    assert endpoint.calls == FOLLOWERS > received


def test_a_stop_at_once_loses_nobody(daemon: BackgroundDaemon, endpoint: CountingEndpoint) -> None:
    daemon.good("start")
    endpoint.latency_s = 20
    job = daemon.call({"content": "hurry", "key": "k"})["job"]
    eventually(lambda: endpoint.calls >= 60, what="sending has begun")
    assert daemon.good("stop", "--now").startswith("broadcastd has stopped")
    assert daemon.status()[0] == 1
    endpoint.latency_s = 0
    daemon.good("start")
    daemon.wait_done(job)
    assert set(endpoint.received) == {openid(n) for n in range(1, FOLLOWERS + 1)}


def test_a_stop_gets_through_where_the_port_refuses(daemon: BackgroundDaemon) -> None:
    daemon.good("start")
    pid = daemon.pid
    os.environ["BROADCASTD_SERVER__PORT"] = "1"
    try:
        said = daemon.good("stop")
    finally:
        del os.environ["BROADCASTD_SERVER__PORT"]
    assert said.splitlines()[0] == f"it does not answer on 127.0.0.1:1: SIGTERM to pid {pid}"
    assert is_gone(pid)


def _edit(daemon: BackgroundDaemon, before: str, after: str) -> None:
    text = daemon.settings.read_text()
    assert before in text
    daemon.settings.write_text(text.replace(before, after))


def test_what_is_wrong_before_the_fork_is_said_on_the_terminal(daemon: BackgroundDaemon) -> None:
    with socket.create_server(("127.0.0.1", daemon.port)):
        said = daemon.run("start")
        assert (said.code, f"127.0.0.1:{daemon.port} is in use by " in said.text) == (1, True)
    for options, words in {
        ("--user", "nobody-here"): "there is no user 'nobody-here' on this machine (background.user)",
        ("--group", "none-here"): "there is no group 'none-here' on this machine (background.group)",
        ("--pid-file", "/proc/x/broadcastd.pid"): "there is no folder /proc/x (background.pid_file)",
        ("--log-file", daemon.folder): f"the log file {daemon.folder} cannot be written: Is a directory",
        ("--pid-file", daemon.folder): f"the pid file {daemon.folder} cannot be written: Is a directory",
    }.items():
        said = daemon.run("start", *map(str, options))
        assert said.code == 1, said
        assert said.text.startswith(f"broadcastd: {words}"), said
        assert said.text.count("\n") == 1
    _edit(daemon, "[pool]", "[pool]\ntasks = 0")
    said = daemon.run("start")
    assert said.code == 4
    assert "pool.tasks: got 0" in said.text
    assert not daemon.pid_file.exists()


def test_broken_settings_do_not_stop_who_runs(daemon: BackgroundDaemon) -> None:
    daemon.good("start")
    pid = daemon.pid
    _edit(daemon, "[pool]", "[pool]\ntasks = 0")
    said = daemon.run("restart")
    assert (said.code, "pool.tasks: got 0" in said.text) == (4, True)
    _edit(daemon, "tasks = 0", "tasks = 3")
    said = daemon.run("restart", "--log-file", daemon.folder / "no" / "b.log")
    assert (said.code, "(background.log_file)" in said.text) == (1, True)
    assert daemon.pid == pid == daemon.call({"op": "ping"})["pid"]
    assert f"broadcastd has stopped, pid {pid}" in daemon.good("restart")
    assert daemon.call({"op": "info"})["tasks"]["all"] == 3
    daemon.good("stop")
    daemon.good("restart")
    assert daemon.call({"op": "ping"})["pid"] == daemon.pid != pid


def test_one_that_dies_during_its_start_says_why(daemon: BackgroundDaemon) -> None:
    daemon.good("start")
    other = daemon.folder / "other.toml"
    text = daemon.settings.read_text().replace(str(daemon.port), "0")
    other.write_text(f'{text}\n[background]\npid_file = "other.pid"\nlog_file = "other.log"\n')
    said = daemon.run("start", "-c", other)
    assert said.code == 1
    assert said.text.startswith("broadcastd: the ledger ")
    assert said.text.endswith(f"is in use by another broadcastd, pid {daemon.pid}\n")
    assert not (daemon.folder / "other.pid").exists()
    assert "is in use by another broadcastd" in (daemon.folder / "other.log").read_text()


def test_the_log_goes_on_in_a_new_file_after_sighup(daemon: BackgroundDaemon) -> None:
    daemon.good("start")
    path = daemon.folder / "broadcastd.log"
    path.rename(daemon.folder / "broadcastd.log.1")
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: '"settings_reloaded"' in daemon.log, what="the new file has the next line")
    daemon.call({"content": "hello"})
    eventually(lambda: '"job_accepted"' in daemon.log)
    old = (daemon.folder / "broadcastd.log.1").read_text()
    assert '"broadcastd_started"' in old
    assert '"job_accepted"' not in old
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def _python_for(user: str) -> str:
    """A Python that this user may run, with the packages of these tests; root's own home hides its own."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError):
            done = subprocess.run([python, "-c", "import broadcastd.app"], user=user, cwd="/", check=False)
            if done.returncode == 0:
                return python
    pytest.skip(f"{user} can run no Python with what broadcastd needs")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_rights_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(broadcastd.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{sysconfig.get_path('purelib')}")
    nobody = pwd.getpwnam("nobody")
    python = _python_for("nobody")
    with tempfile.TemporaryDirectory(prefix="bd-") as name, counting_endpoint() as endpoint:
        folder = Path(name)
        site = sqlite_site(folder / "site.db", 10)
        files = '[background]\nuser = "nobody"\npid_file = "run/b.pid"\nlog_file = "log/b.log"'
        with background_daemon(folder, endpoint.url, site, more=files) as daemon:
            daemon.python = python
            folder.chmod(0o755)
            said = daemon.run("start")
            assert said.code == 1
            assert "cannot be opened: Permission denied" in said.text, said
            assert str(daemon.ledger) in said.text
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            os.chown(folder / "site.db", nobody.pw_uid, nobody.pw_gid)
            daemon.good("start")
            pid = int((folder / "run" / "b.pid").read_text())
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                uid = nobody.pw_uid
                assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
                assert "CapEff:\t0000000000000000" in status
                # The folders that were missing are that user's; what may be there already is not touched.
                for path in ("run", "run/b.pid", "log", "log/b.log", "ledger.db"):
                    assert (folder / path).stat().st_uid == uid, path
                # Its memory is not to be dumped, nor looked into.
                assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
                job = daemon.call({"content": "hello"})["job"]
                assert daemon.wait_done(job)["books"]["sent"] == 10
            finally:
                daemon.good("stop")
            (folder / "log" / "b.log").unlink()
            os.chown(folder / "log", 0, 0)
            said = daemon.run("start")
            assert said.code == 1
            assert "log/b.log cannot be written: Permission denied (background.log_file)" in said.text


def test_run_drains_when_its_terminal_is_gone(daemon: BackgroundDaemon) -> None:
    terminal, slave = os.openpty()
    daemon.process = subprocess.Popen(
        [sys.executable, "-m", "broadcastd", "run", "-c", str(daemon.settings)],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        eventually(lambda: daemon.status()[0] == 0, what="it answers")
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.process.wait(30) == 0
    finally:
        os.close(terminal)


def _rounds(daemon: BackgroundDaemon, endpoint: CountingEndpoint, rounds: int) -> None:
    """Start, accept, restart or stop while it sends, reload: nobody is lost, nobody twice."""
    daemon.good("start")
    jobs = []
    for number in range(rounds):
        calls = endpoint.calls
        with RawClient(daemon.port) as client:
            jobs.append(client.ask({"content": f"round-{number} x", "key": f"k{number}"})["job"])
        eventually(lambda calls=calls: endpoint.calls > calls, what="sending goes on")
        daemon.good("reload")
        if number % 2:
            daemon.good("restart")
        else:
            daemon.good("stop")
            daemon.good("start")
    for job in jobs:
        books = daemon.wait_done(job)["books"]
        assert (books["sent"], books["in_doubt"]) == (FOLLOWERS, 0)
    received: dict[str, list[str]] = {}
    for body in endpoint.bodies:
        received.setdefault(body["text"]["content"].split(" ")[0], []).append(str(body["touser"]))
    everybody = sorted(openid(n) for n in range(1, FOLLOWERS + 1))
    assert {name: sorted(whom) == everybody for name, whom in received.items()} == {
        f"round-{number}": True for number in range(rounds)
    }
    assert [line for line in daemon.log.splitlines() if not line.startswith("{")] == []


def test_starts_stops_and_reloads_lose_nobody(daemon: BackgroundDaemon, endpoint: CountingEndpoint) -> None:
    _rounds(daemon, endpoint, 3)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_starts_stops_and_reloads_lose_nobody(
    daemon: BackgroundDaemon, endpoint: CountingEndpoint
) -> None:
    _rounds(daemon, endpoint, 100)
