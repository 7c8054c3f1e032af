"""`scripts/bench --quick`: is what was just measured worse than the last figures in the repository?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.bare_side import TUNED
from bench.rounds import Found, Runs, joined, values_of

KINDS = (("rate", "per_s", "per_s", 0.2), ("CPU", "cpu_us", "cpu_us", 0.15))
"""What is compared with what of the bare loop, and so much worse it may be.

What else runs on the machine disturbs rates more than CPU time.
"""
FRAME_KINDS = (("rate", "frames_per_s", "per_s", 0.5), ("CPU", "frame_cpu_us", "cpu_us", 0.25))
"""The same of frames: their callers and their commits take their share of the machine."""

MOST_S = 110
"""A round that would end later is not begun."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One ratio, then and now."""

    words: str
    then: float | None
    """None: it was not measured then."""
    now: float
    tolerance: float
    more_is_better: bool

    @property
    def worse_by(self) -> float:
        """The share by which it is worse than then; below 0: better."""
        if self.then is None:
            return 0.0
        return 1 - self.now / self.then if self.more_is_better else self.now / self.then - 1

    @property
    def is_worse(self) -> bool:
        """By more than may be."""
        return self.worse_by > self.tolerance

    def line(self) -> str:
        """For a terminal."""
        verdict = f"WORSE, by more than {self.tolerance:.0%}" if self.is_worse else "ok"
        if self.then is None:
            return f"{self.words:<58} {'-':>8} {self.now:>8.3g}   not measured then"
        return f"{self.words:<58} {self.then:>8.3g} {self.now:>8.3g}   {verdict}"


def compare(then: Found, now: Found) -> list[Compared]:
    """Every side but the bare loops, each beside that of its own group; frames beside those over HTTP."""
    return [one for group in now for one in _group(group, then, now)]


def patient(
    then: Found, measure: Callable[[], Found], once_more: Callable[[], Found], now_s: Callable[[], float]
) -> list[Compared]:
    """What `measure` finds, compared; while something is worse, and there is time, with one more round.

    A busy machine makes something worse, too, but rarely in every round.
    """
    began_s = now_s()
    found, rounds_took_s = measure(), now_s() - began_s
    compared = compare(then, found)
    while any(one.is_worse for one in compared) and now_s() - began_s + rounds_took_s / 2 < MOST_S:
        found = joined(found, once_more())
        compared = compare(then, found)
    return compared


def _group(group: str, then: Found, now: Found) -> Iterator[Compared]:
    base = group if TUNED in now[group] else next(iter(now))
    for side, runs in now[group].items():
        if side == TUNED:
            continue
        before, bare = then.get(group, {}).get(side, []), then.get(base, {}).get(TUNED, [])
        for kind, one, other, tolerance in KINDS if base == group else FRAME_KINDS:
            yield Compared(
                f"{group}: {side}, {kind} ÷ bare loop",
                _best(before, bare, one, other) if before and bare else None,
                _best(runs, now[base][TUNED], one, other),
                tolerance,
                more_is_better=kind == "rate",
            )


def _best(runs: Runs, beside: Runs, quantity: str, other: str) -> float:
    """The best round of each: what else runs on the machine only ever makes one worse."""
    best = min if other == "cpu_us" else max
    return best(values_of(runs, quantity)) / best(values_of(beside, other))


def report(compared: list[Compared]) -> str:
    """A line a ratio."""
    head = f"{'':<58} {'then':>8} {'now':>8}"
    return "\n".join([head, *(one.line() for one in compared)])
