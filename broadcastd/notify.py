"""Tells systemd how the daemon is (sd_notify(3)): datagrams to the socket that the environment names."""

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

SEND_S = 0.2
"""systemd reads at once; whoever else listens may be slow, and must not hold up the daemon."""
DRAIN_ALLOWANCE_S = 15.0
"""How much longer systemd is asked to wait, each second while something still ends."""


class Notifier:
    """Without an address it says nothing. A word that does not get through is lost, and nothing else."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        """How long systemd bears silence (WatchdogSec); None: it does not watch."""
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> "Notifier":
        """What systemd has put there, which is taken away: no child of ours may speak in our name."""
        address = environment.pop("NOTIFY_SOCKET", "")
        for_whom = environment.pop("WATCHDOG_PID", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        is_ours = for_whom in ("", str(os.getpid()))
        watched = is_ours and watchdog_us.isdecimal() and int(watchdog_us) > 0
        return cls(address, int(watchdog_us) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """It serves, or serves again after `reloading`."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """It reads its settings again; `ready` must follow."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        """It drains, and needs a while: said again and again until the end."""
        self._tell("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={DRAIN_ALLOWANCE_S * 1e6:.0f}")

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._tell(f"STATUS={status}")

    def alive(self) -> None:
        """It makes progress: feeds the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
                there.settimeout(SEND_S)
                there.sendto("\n".join(lines).encode(), self._address)
