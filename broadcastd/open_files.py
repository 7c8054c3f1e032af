"""How many files and sockets this process may have open."""

import resource


def raise_limit() -> int:
    """Raise the soft limit (1024 by custom) to the hard one; how many there may be then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # the kernel's own ceiling (fs.nr_open) may be lower
            return soft
    return hard


def limit() -> int:
    """How many there may be now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
