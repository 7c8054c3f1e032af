"""No core files: the memory of a daemon holds tokens and passwords."""

import ctypes
import resource

PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_files() -> None:
    """For this process. The limit alone does not keep a core from a program that the kernel pipes it to."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
