"""What was to be reached, each as one figure with its limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.bare_side import TUNED
from bench.figures import Book
from bench.rounds import Runs, middle, ratio
from bench.scenarios import frames, growth, planning, replies
from bench.scenarios.latency import group_of
from bench.scenarios.sending import HTTP, HTTPS, IN_MYSQL

DAEMON, LEAN = "broadcastd", "broadcastd, lean"
MILLION, TEN_THOUSAND = "1,000,000", "10,000"
SLOW = group_of(1500, 240, HTTP)

Place = tuple[str, str, str]
"""Scenario, group, side."""


@dataclass(frozen=True, slots=True)
class Aim:
    """`at` is compared with `beside` by `quantity`, and must be `at_least` or `at_most` the limit."""

    words: str
    at: Place
    quantity: str
    limit: float
    beside: Place | None = None
    how: Literal["ratio", "more than"] = "ratio"
    bound: Literal["at least", "at most"] = "at most"
    form: str = "{:.2f}"

    def figure(self, book: Book) -> float | None:
        """What it came to; None: not measured."""
        runs = _runs(book, self.at)
        if self.beside is None:
            return middle(runs, self.quantity) if runs else None
        others = _runs(book, self.beside)
        if not runs or not others:
            return None
        if self.how == "more than":
            return middle(runs, self.quantity) - middle(others, self.quantity)
        return ratio(runs, others, self.quantity)

    def met(self, figure: float) -> bool:
        """Whether that is good enough."""
        return figure >= self.limit if self.bound == "at least" else figure <= self.limit


def _runs(book: Book, place: Place) -> Runs:
    scenario, group, side = place
    return book[scenario].found.get(group, {}).get(side, []) if scenario in book else []


def _rate(words: str, group: str, side: str, limit: float, beside: str = TUNED) -> Aim:
    return Aim(words, ("sending", group, side), "per_s", limit, ("sending", group, beside), bound="at least")


def _slow(recipients: int) -> Aim:
    group = group_of(recipients, 80, HTTP)
    words = f"{recipients:,} at 80 ms: time ÷ tuned bare loop"
    return Aim(words, ("latency", group, DAEMON), "sent_s", 1.3, ("latency", group, TUNED))


def _planning(group: str) -> Aim:
    at, beside = ("planning", group, planning.DAEMON), ("planning", group, planning.BARE)
    return Aim(f"planning 1,000,000, {group}: time ÷ bare read", at, "read_s", 1.5, beside)


def _reply(side: str) -> Aim:
    words = f"p99 of a reply, ms, {side}"
    return Aim(words, ("replies", replies.GROUP, side), "p99_ms", 50, form="{:.1f}")


_IMPORTS = ("growth", growth.NO_JOB, growth.IMPORTS)
_LARGE, _SMALL = ("growth", MILLION, DAEMON), ("growth", TEN_THOUSAND, DAEMON)
_FRAMES = ("frames", frames.GROUP, frames.KEPT)

AIMS: Sequence[Aim] = (
    _rate("messages/s ÷ tuned bare loop, HTTP", HTTP, DAEMON, 0.85),
    _rate("the same, HTTPS", HTTPS, DAEMON, 0.9),
    _rate("the same, transport lean, HTTP", HTTP, LEAN, 3.5),
    _rate("the same, transport lean, HTTPS", HTTPS, LEAN, 3.0),
    _rate("messages/s with the ledger in MariaDB ÷ in SQLite", HTTP, DAEMON + IN_MYSQL, 0.6, DAEMON),
    Aim("1,500 at 240 ms: seconds to the last message", ("latency", SLOW, DAEMON), "sent_s", 2.0),
    _slow(30_000),
    _slow(31_000),
    Aim("imports alone, peak MB", _IMPORTS, "peak_mb", 85, form="{:.0f}"),
    Aim("peak MB above that at 1,000,000", _LARGE, "peak_mb", 40, _IMPORTS, "more than", form="{:.0f}"),
    Aim("peak MB above 10,000 at 1,000,000", _LARGE, "peak_mb", 5, _SMALL, "more than", form="{:.1f}"),
    Aim("CPU a message at 1,000,000 ÷ at 10,000", _LARGE, "cpu_us", 1.05, _SMALL),
    Aim("first message at 1,000,000, ms after the reply", _LARGE, "first_ms", 200, form="{:.0f}"),
    _planning(planning.PLAIN),
    _planning(planning.INDEXED),
    Aim("frames/s over 50 connections", _FRAMES, "frames_per_s", 1000, bound="at least", form="{:,.0f}"),
    _reply("broadcastd sends"),
    _reply("broadcastd, lean sends"),
)  # fmt: skip


def aims_table(book: Book) -> str:
    """As Markdown, those that were measured."""
    lines = ["| | aim | measured | |", "|---|---|---|---|"]
    for aim in AIMS:
        figure = aim.figure(book)
        if figure is not None:
            met = "met" if aim.met(figure) else "**not met**"
            limit, shown = aim.form.format(aim.limit), aim.form.format(figure)
            lines.append(f"| {aim.words} | {aim.bound} {limit} | {shown} | {met} |")
    return "\n".join(lines)
