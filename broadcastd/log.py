"""Logging: readable on a terminal, one JSON object a line otherwise. No secret, no control character."""

import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SECRET_FIELDS = frozenset({"token", "password", "secret", "app_secret", "access_token", "accesstoken", "url"})
# A password ends at the last @ of its address, whatever else is in it; without an @ there is none.
_IN_URL = re.compile(r"(access_token=)[^&\s\"']+|(://[^:/@\s]*:)\S{1,500}(?=@)")
# Control characters, line and paragraph separators, and all that turns the direction of a text around.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class LineLogger:
    """Writes lines to stderr. A line that cannot be written is lost, and nothing else.

    The log may be on the disk that is full, or its reader may be gone: neither may keep a post from being
    sent. How many lines were lost is told once there is room again.
    """

    def __init__(self) -> None:
        self.lost = 0

    def msg(self, message: str) -> None:
        """One line."""
        try:
            if self.lost:
                # The disk may have taken half a line before it was full: that one is ended first.
                print("\n" + _json({"event": "log_lines_lost", "lines": self.lost}), file=sys.stderr)
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # ValueError: stderr is closed
            self.lost += 1
        else:
            self.lost = 0

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = err = msg


def configure(level: str, *, terminal: bool | None = None) -> None:
    """Set up structlog for the process. `terminal`: for people, else for machines; None asks stderr."""
    if terminal is None:
        terminal = sys.stderr.isatty()
    lines = LineLogger()
    bound_logger = type("BoundLogger", (_filtering(level),), {})
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    if terminal:
        processors += [escape_controls, structlog.dev.ConsoleRenderer()]
    else:
        processors.append(structlog.processors.JSONRenderer(serializer=_json))
    structlog.configure(
        processors=processors,
        wrapper_class=bound_logger,
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )


def change_level(level: str) -> None:
    """Another level from now on, for the loggers in use too: they are cached, their class is not."""
    structlog.get_config()["wrapper_class"].__bases__ = (_filtering(level),)


def _filtering(level: str) -> type:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


def _json(event: EventDict, **_: Any) -> str:
    return escaped_json(orjson.dumps(event, default=str).decode())


def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Whatever somebody logs by mistake: fields named like a secret, tokens and passwords within URLs."""
    for name, value in event.items():
        if name in SECRET_FIELDS:
            event[name] = "***"
        elif isinstance(value, str) and ("access_token=" in value or "://" in value):
            event[name] = _IN_URL.sub(lambda found: f"{found[1] or found[2]}***", value)
    return event


def escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A text from outside must not steer an operator's terminal."""
    for name, value in event.items():
        if name == "exception" and isinstance(value, str):
            event[name] = "\n".join(escaped(line) for line in value.split("\n"))
        elif isinstance(value, str):
            event[name] = escaped(value)
    return event


def escaped(text: str) -> str:
    """`text` with control characters and direction marks written as \\x1b, \\u202e."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escaped_json(line: str) -> str:
    """The same JSON, with what it may leave as it is, such as direction marks, written as \\u202e."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
