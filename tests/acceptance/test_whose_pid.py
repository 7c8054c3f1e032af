"""`broadcastd stop` of root's kills nobody on the word of a file or of a port."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from bed.background import BackgroundDaemon, is_gone
from bed.site import sqlite_site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root may signal other users' processes")
LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def process(*words: object) -> Iterator["subprocess.Popen[str]"]:
    """Runs until its stdin is closed, or somebody kills it; it has said a line."""
    pipe = subprocess.PIPE
    with subprocess.Popen([str(word) for word in words], stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running


@contextmanager
def innocent() -> Iterator["subprocess.Popen[str]"]:
    with process(sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()") as running:
        yield running
        assert running.poll() is None


@pytest.fixture
def daemon(tmp_path: Path) -> BackgroundDaemon:
    """Its settings; it is never started."""
    return BackgroundDaemon(tmp_path, "http://127.0.0.1:9", sqlite_site(tmp_path / "site.db", 1))


@pytest.mark.parametrize("how", [("--now",), ("--timeout", 1)])
def test_another_process_than_the_one_that_has_locked_the_file(
    daemon: BackgroundDaemon, how: tuple[str, ...]
) -> None:
    with innocent() as other:
        daemon.pid_file.write_text(f"{other.pid}\n")
        with process(sys.executable, "-c", LOCK, daemon.pid_file):
            said = daemon.say("stop", *how)
    assert said.code == 1
    assert (
        f"pid {other.pid} is left alone: {daemon.pid_file} names it, and another process has locked"
        in said.text
    )


def test_a_process_that_is_not_the_files_owners(daemon: BackgroundDaemon) -> None:
    daemon.pid_file.touch()
    with process(sys.executable, "-c", LOCK, daemon.pid_file) as holder:
        daemon.pid_file.write_text(f"{holder.pid}\n")
        os.chown(daemon.pid_file, 65534, 65534)
        said = daemon.say("stop", "--now")
        assert (said.code, holder.poll()) == (1, None)
        assert "belongs to uid 65534, and the process does not" in said.text
        os.chown(daemon.pid_file, 0, 0)
        daemon.good("stop", "--now")
        assert is_gone(holder.pid)


def test_a_link_or_a_pipe_is_not_followed(daemon: BackgroundDaemon) -> None:
    elsewhere = daemon.folder / "another.pid"
    elsewhere.touch()
    with process(sys.executable, "-c", LOCK, elsewhere) as holder:
        elsewhere.write_text(f"{holder.pid}\n")
        daemon.pid_file.symlink_to(elsewhere)
        assert daemon.good("stop", "--now") == "broadcastd does not run\n"
        assert holder.poll() is None
    daemon.pid_file.unlink()
    os.mkfifo(daemon.pid_file)
    assert daemon.good("stop", "--now") == "broadcastd does not run\n"


def test_whom_a_liar_on_the_port_names(daemon: BackgroundDaemon) -> None:
    with innocent() as other:

        class Liar(StreamRequestHandler):
            def handle(self) -> None:
                self.rfile.readline()
                self.wfile.write(json.dumps({"ok": True, "pid": other.pid}).encode() + b"\n")

        with ThreadingTCPServer(("127.0.0.1", daemon.port), Liar) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            # The liar is this very process: the other one does not listen.
            said = daemon.say("stop", "--now")
            server.shutdown()
    assert said.code == 1
    assert f"pid {other.pid} is left alone: whoever answers on port {daemon.port} names it" in said.text
