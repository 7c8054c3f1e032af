"""Times on the command line: `--not-before`, `--not-after`."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FROM_NOW = re.compile(r"\+(\d{1,6})([smhd])")
UNIX = re.compile(r"\d{9,11}")  # from 1973 to the year 5138; eight digits would be a date


def moment_option(name: str, says: str) -> Callable[[F], F]:
    """An option that takes a time in many ways and yields it as the wire wants it."""
    return click.option(name, metavar="TIME", callback=_as_moment, help=says)


def _as_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else moment(value, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{value!r} is no time: {error}. Give 2026-11-24T18:00+08:00, 2026-11-24T18:00 (in this machine's"
            " timezone), Unix seconds, or +2h (from now; s, m, h, d)",
            ctx,
            param,
        ) from error


def moment(text: str, now: datetime) -> str:
    """What `text` means, in ISO 8601 with an offset. Raises ValueError or OverflowError."""
    text = text.strip()
    if found := FROM_NOW.fullmatch(text):
        return (now + timedelta(seconds=int(found[1]) * UNIT_S[found[2]])).isoformat(timespec="seconds")
    if UNIX.fullmatch(text):
        return datetime.fromtimestamp(int(text), UTC).isoformat()
    if ":" not in text:
        raise ValueError("the time of day is missing")
    then = datetime.fromisoformat(text)
    return (then if then.tzinfo else then.astimezone()).isoformat()


not_before_option = moment_option("--not-before", "Begin no sooner: 2026-11-24T18:00+08:00, or +2h.")
not_after_option = moment_option("--not-after", "Skip who is left then: 2026-11-24T18:00+08:00, or +2h.")
