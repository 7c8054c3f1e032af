"""Commands as processes of their own, of whom their words and deeds matter, and not what a start costs."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from bed.daemon import DaemonProcess
from bed.warm import Started


def begin(
    *arguments: object, output: IO[Any], errors: IO[Any], environment: Mapping[str, str] | None = None
) -> Started:
    """`broadcastd ARGUMENTS…`, begun; `environment` is added to this process's."""
    words = list(map(str, arguments))
    added = {**os.environ, **(environment or {})}
    if DaemonProcess.warm is not None:
        return DaemonProcess.warm.run(words, output.fileno(), errors.fileno(), added)
    command = [sys.executable, "-m", "broadcastd", *words]
    return subprocess.Popen(command, stdout=output, stderr=errors, env=added)


def finished(
    *arguments: object, timeout_s: float = 60, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """The same once it has ended, with what it printed. Raises subprocess.TimeoutExpired."""
    with ExitStack() as stack:
        output, errors = (
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(2)
        )
        process = begin(*arguments, output=output, errors=errors, environment=environment)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read())
        return subprocess.CompletedProcess(list(arguments), code, *said)


@contextmanager
def first_line(*arguments: object) -> Iterator[str]:
    """One that goes on: the line with which it says that it is there. It is gone at the end."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as lines:
        with open(writing, "wb") as output:
            process = begin(*arguments, output=output, errors=sys.__stderr__)
        try:
            yield lines.readline()
        finally:
            process.send_signal(15)
            process.wait(30)
