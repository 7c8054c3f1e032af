"""A daemon that is watched: its settings of the monitor, a mail server that keeps what it gets, one run."""

import contextlib
import email
import email.policy
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from bed.daemon import DaemonProcess
from bed.ports import free_port


class Mailbox:
    """Keeps the mails that its server takes."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del server, session
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    @property
    def titles(self) -> list[str]:
        """In the order they came, without the installation's name."""
        return [str(mail["Subject"]).partition("] ")[2] for mail in self.mails]

    def text(self, number: int = -1) -> str:
        """Of one mail."""
        body = self.mails[number].get_body(("plain", "html"))
        assert body is not None
        return str(body.get_content())


@contextmanager
def mail_server(port: int = 0) -> Iterator[tuple[Mailbox, str]]:
    """A real SMTP server, and the address of an alert that goes there."""
    box = Mailbox()
    port = port or free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        yield box, f"mailto://127.0.0.1:{port}?from=broadcastd@example.com&to=ops@example.com&mode=insecure"
    finally:
        server.stop()


def watch(daemon: DaemonProcess, url: str, **monitor: Any) -> None:
    """Add what the monitor needs to the daemon's settings."""
    values = {"state_dir": "monitor", "second_look_s": 35, "timeout_s": 5, "restart": "", **monitor}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    added = "\n".join(["", "[alerts]", f"urls = {json.dumps([url])}", "", "[monitor]", *lines, ""])
    daemon.settings.write_text(daemon.settings.read_text(encoding="utf-8") + added, encoding="utf-8")


def starter(daemon: DaemonProcess) -> str:
    """A command that starts the daemon anew, whatever became of the old one; notes its calls, and the pid."""
    script = daemon.folder / "start-again"
    run = f"{sys.executable} -m broadcastd run -c {daemon.settings}"
    script.write_text(
        f"""#!/bin/sh
cd {daemon.folder}
echo again >> restarts
[ -e pid ] && kill -9 $(cat pid)
{run} >> daemon.log 2>&1 &
echo $! > pid
"""
    )
    script.chmod(0o700)
    return str(script)


def pid_of(daemon: DaemonProcess) -> int:
    """Of the daemon that `starter` has started, or that is to be ended by it."""
    return int((daemon.folder / "pid").read_text())


def end(daemon: DaemonProcess) -> None:
    """Make sure that what `starter` has started is gone."""
    with contextlib.suppress(OSError):
        os.kill(pid_of(daemon), signal.SIGKILL)


def forget(daemon: DaemonProcess) -> None:
    """Let the monitor have seen nothing yet."""
    shutil.rmtree(daemon.folder / "monitor")


def restarts(daemon: DaemonProcess) -> int:
    """How often `starter` was called."""
    there = daemon.folder / "restarts"
    return len(there.read_text().splitlines()) if there.exists() else 0


@dataclass(frozen=True)
class Seen:
    """One run of the monitor."""

    exit_code: int
    out: str
    complaints: str

    @property
    def troubles(self) -> dict[str, str]:
        """Check to words, of those that were not well."""
        return {one["check"]: one["words"] for one in json.loads(self.out)["checks"] if not one["ok"]}

    @property
    def done(self) -> list[str]:
        """What it did."""
        found: list[str] = json.loads(self.out)["done"]
        return found


def look(daemon: DaemonProcess, *options: str, **monitor: Any) -> Seen:
    """Run it once; `monitor`: settings, instead of the file's."""
    command = [sys.executable, "-m", "broadcastd", "monitor", "--json", "-c", str(daemon.settings), *options]
    added = {f"BROADCASTD_MONITOR__{name.upper()}": str(value) for name, value in monitor.items()}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=70, check=False, env={**os.environ, **added}
    )
    return Seen(done.returncode, done.stdout, done.stderr)
