"""Alarms run in threads of their own, which a failed call does not wait for."""

import smtplib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from threading import Thread
from typing import Union

from broadcastd_client.spool import StrPath, locked
from broadcastd_client.wire import BroadcastError

Alarm = Callable[[BroadcastError], object]
EXIT_WAIT_S = 15.0  # enough for a mail; more would hold up a script that is at its end


def sound(alarms: Union[Alarm, Sequence[Alarm]], error: BroadcastError) -> None:
    """Start the alarms and return. One that raises is a matter for threading.excepthook, which prints it."""
    for alarm in [alarms] if callable(alarms) else alarms:
        with suppress(RuntimeError):  # no more threads: the error itself matters more
            running = Thread(target=alarm, args=(error,), name="broadcastd-alarm", daemon=True)
            running.start()
            Thread(target=running.join, args=(EXIT_WAIT_S,)).start()  # no daemon: the process waits for it


@dataclass(frozen=True)
class MailAlarm:
    """A mail to all `recipients`, at most one in `interval_s` among processes that share `state_path`.
    `connect` is called as smtplib.SMTP is: give smtplib.SMTP_SSL, or a function that logs in."""

    smtp_host: str
    smtp_port: int
    sender: str
    recipients: Sequence[str]
    state_path: StrPath
    connect: Callable[..., smtplib.SMTP] = smtplib.SMTP
    timeout_s: float = 5.0
    interval_s: float = 600.0

    def __call__(self, error: BroadcastError) -> None:
        """Mail it, unless it is too soon. Raises OSError (which smtplib's errors are)."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self.sender, ", ".join(self.recipients)
        mail["Subject"] = f"broadcastd: a broadcast is not confirmed (key {error.key})"
        mail.set_content(f"{error}\n\nThe next mail comes after {self.interval_s:.0f} s at the soonest.\n")
        state = Path(self.state_path)
        state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(BlockingIOError), locked(state):  # else another process is mailing
            if 0 <= time.time() - float(state.read_text() or 0) < self.interval_s:
                return
            with self.connect(self.smtp_host, self.smtp_port, timeout=self.timeout_s) as smtp:
                state.write_text(str(time.time()))  # from here on it may have gone out
                smtp.send_message(mail, self.sender, list(self.recipients))
