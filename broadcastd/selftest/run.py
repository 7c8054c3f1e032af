"""A selftest from its start to its verdicts."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broadcastd.errors import BroadcastdError
from broadcastd.selftest.bench import Bench, open_bench
from broadcastd.selftest.counting import count, wait_ended
from broadcastd.selftest.counts import Counted, Round
from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.faults import Fault, deal
from broadcastd.selftest.options import Options
from broadcastd.selftest.verdicts import Verdict, judge


@dataclass(slots=True)
class Result:
    """What a run has found so far. `folder` is None once it is removed."""

    options: Options
    folder: Path | None
    full_disk: str = ""
    rounds: list[Round] = field(default_factory=list)
    counted: Counted = field(default_factory=lambda: Counted((), (), 0))
    verdicts: list[Verdict] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return bool(self.verdicts) and all(verdict.ok for verdict in self.verdicts)


class Watcher:
    """Told of a run's steps as they happen; does nothing with them."""

    def opened(self, result: Result) -> None:
        """Everything runs: `folder` and `full_disk` are known."""

    def struck(self, one: Round) -> None:
        """A round is over."""

    def waiting(self, jobs: int) -> None:
        """The faults are over; these jobs must end now."""


def run(options: Options, watcher: Watcher, faults: Sequence[Fault] | None = None) -> Result:
    """Run it. The folder stays when the check fails or `options.keep` says so.

    `faults` in place of the dealt ones. Raises SelftestStoppedError when not even the start succeeds.
    """
    folder = Path(tempfile.mkdtemp(prefix="broadcastd-selftest-"))
    result = Result(options, folder)
    started_s = time.monotonic()
    with contextlib.ExitStack() as at_end:
        # Also after Ctrl-C: then there is nothing to look at.
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            _run(result, watcher, faults)
        except (BroadcastdError, OSError) as error:
            at_end.pop_all()
            raise SelftestStoppedError(f"{error}; logs are in {folder}") from error
        if options.keep or not result.passed:
            at_end.pop_all()
        else:
            result.folder = None
    result.took_s = time.monotonic() - started_s
    return result


def _run(result: Result, watcher: Watcher, faults: Sequence[Fault] | None) -> None:
    assert result.folder is not None
    with contextlib.ExitStack() as stack:
        bench = open_bench(stack, result.options, result.folder)
        result.full_disk = bench.disk.name
        watcher.opened(result)
        trouble = _strike_all(bench, result, watcher, faults)
        jobs, in_ledger = count(bench)
        result.counted = Counted(tuple(jobs), tuple(bench.daemon.deaths), in_ledger, trouble)
        result.verdicts = judge(result.options, result.counted)


def _strike_all(bench: Bench, result: Result, watcher: Watcher, faults: Sequence[Fault] | None) -> str:
    """Every round, then the wait for the jobs' end; why it had to stop early, or an empty text."""
    started_s = time.monotonic()
    try:
        for no, fault in enumerate(faults or deal(bench.options.rounds, bench.disk, bench.chance), 1):
            bench.daemon.round_no = no
            died_before = len(bench.daemon.deaths)
            what = fault(bench)
            bench.daemon.revive()
            deaths = tuple(bench.daemon.deaths[died_before:])
            result.rounds.append(Round(no, time.monotonic() - started_s, what, deaths))
            watcher.struck(result.rounds[-1])
        watcher.waiting(len(bench.payer.orders))
        wait_ended(bench)
        bench.daemon.stop()
    except (BroadcastdError, OSError) as error:
        return f"{error}{bench.daemon.ended_how()}"
    return ""
