"""How an audience sync goes: a bar on a terminal, a line a page otherwise."""

import time
from contextlib import AbstractContextManager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from broadcastd.cli.show import console
from broadcastd.log import escaped
from broadcastd.sync_ports import Pass, Stage


def counts_of(last: Pass) -> str:
    """`25,000 followers (1,200 new, 3 back)`."""
    left_out = f", {last.left_out:,} left out: no openid, or too long for the table" if last.left_out else ""
    return f"{last.seen:,} followers ({last.inserted:,} new, {last.returned:,} back{left_out})"


class Silent(AbstractContextManager["Silent"]):
    """Implements `SyncWatcher` for whoever reads JSON."""

    def __exit__(self, *_: Any) -> None:
        """Nothing to end."""

    def resumed(self, last: Pass) -> None:
        """See `SyncWatcher`."""

    def advanced(self, last: Pass) -> None:
        """See `SyncWatcher`."""

    def waiting(self, why: str, pause_s: float) -> None:
        """See `SyncWatcher`."""


class Lines(Silent):
    """For a log."""

    def __init__(self) -> None:
        self._out = console()
        self._begun_s = time.monotonic()
        self._told = 0

    def resumed(self, last: Pass) -> None:
        """See `SyncWatcher`."""
        self._told = last.pages
        self._say(f"goes on after page {last.pages:,}")

    def advanced(self, last: Pass) -> None:
        """See `SyncWatcher`."""
        if last.pages != self._told and last.stage is not Stage.COMPLETE:
            self._told = last.pages
            took_s = time.monotonic() - self._begun_s
            self._say(f"page {last.pages:,}: {counts_of(last)} of {last.total:,}, {took_s:,.1f} s")

    def waiting(self, why: str, pause_s: float) -> None:
        """See `SyncWatcher`."""
        self._say(f"{why}; again in {pause_s:,.0f} s")

    def _say(self, line: str) -> None:
        self._out.print(escaped(line), markup=False)


class Bar(Silent):
    """For a person at a terminal."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console())
        self._bar = self._progress.add_task("audience", total=None)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def resumed(self, last: Pass) -> None:
        """See `SyncWatcher`."""
        self._progress.print(f"goes on after page {last.pages:,}", markup=False)

    def advanced(self, last: Pass) -> None:
        """See `SyncWatcher`."""
        what = "listing" if last.stage is Stage.LISTING else "marking who left"
        self._progress.update(
            self._bar,
            description=what if last.stage is not Stage.COMPLETE else "complete",
            completed=last.seen,
            total=last.total or None,
        )

    def waiting(self, why: str, pause_s: float) -> None:
        """See `SyncWatcher`."""
        self._progress.print(escaped(f"{why}; again in {pause_s:,.0f} s"), markup=False)
