"""How many files and sockets this process may have open."""

import contextlib
import resource
import sys


def raise_limit() -> None:
    """Raise the soft limit (1024 by custom) to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # the kernel's own ceiling (fs.nr_open) may be lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """How many there may be now."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
