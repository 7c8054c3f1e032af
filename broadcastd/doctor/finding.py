"""What a check comes to."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"  # it works; an operator should know
    FAIL = "fail"  # it does not, or people are lost, or told what they must not know
    SKIPPED = "skipped"  # not looked at, and why


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result."""

    verdict: Verdict
    seen: str
    mend: tuple[str, ...] = ()
    """What to type or to do: never empty for `WARN` and `FAIL`."""


Findings = list[Finding]


def ok(seen: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, seen)


def warn(seen: str, mend: str, *more: str) -> Finding:
    """It works, and should be seen to."""
    return Finding(Verdict.WARN, seen, (mend, *more))


def fail(seen: str, mend: str, *more: str) -> Finding:
    """It must be mended."""
    return Finding(Verdict.FAIL, seen, (mend, *more))


def skipped(why: str) -> Finding:
    """It was not looked at."""
    return Finding(Verdict.SKIPPED, why)
