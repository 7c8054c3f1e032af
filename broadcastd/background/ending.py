"""Waits for a process to end, and ends one."""

import os
import select
import signal
import time
from contextlib import suppress

AGAIN_S = 0.1
"""The first SIGTERM drains, another one ends at once; one that comes too soon is the same signal still."""
PATIENCE_S = 5.0
"""A process that has not ended by then is hung: SIGKILL. The ledger bears that."""


class Watched:
    """A process by its pid: one that takes over the number later is not meant."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError when there is none, PermissionError when it is another's."""
        self.pid = pid
        self._file = os.pidfd_open(pid)

    def close(self) -> None:
        """Look no more."""
        os.close(self._file)

    def ended_within(self, within_s: float) -> bool:
        """Wait; whether it is gone."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        return bool(poll.poll(max(0.0, within_s) * 1000))

    def drain(self) -> None:
        """Ask it to. Raises PermissionError."""
        self._send(signal.SIGTERM)

    def end_now(self) -> bool:
        """Without draining; whether it had to be killed. Raises PermissionError."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            self._send(signal.SIGTERM)
            if self.ended_within(AGAIN_S):
                return False
        self._send(signal.SIGKILL)
        self.ended_within(PATIENCE_S)
        return True

    def drain_or_kill(self, within_s: float) -> bool:
        """Ask it to end, and kill it when it has not by then; whether it was. Raises PermissionError."""
        self.drain()
        if self.ended_within(within_s):
            return False
        self._send(signal.SIGKILL)
        self.ended_within(PATIENCE_S)
        return True

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._file, number)
