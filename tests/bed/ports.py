"""Free ports and waiting for events."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # of any address: some daemons listen on all
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T], within_s: float = 30.0, what: str = "") -> T:
    """Look until `look` returns something true, and return it. The deadline only ends a broken test."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come within {within_s} s: {what or look}")
        time.sleep(0.02)
