"""One run of the monitor: look, have it told, restart, look again."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broadcastd.clock import Clock
from broadcastd.monitor.state import State
from broadcastd.monitor.telling import Telling
from broadcastd.monitor.verdict import CHECKS, Facts, Finding, Limits, Port, judge

WHOLE_S = 55.0
"""A run ends within a minute, whatever hangs: the next one is due then."""
CONFIRM_S = 2.0
"""Nobody listens: a daemon that is just being restarted listens again by then."""
LOOK_S = 0.5
"""How often the second look looks."""
LAST_S = 18.0
"""Kept for the look at everything after a restart, and for the last alert."""


class Eyes(Protocol):
    """Looks at the daemon (`looks.Looks`)."""

    def gather(self) -> Facts:
        """Everything."""
        ...

    def ping(self, within_s: float) -> tuple[Port, str]:
        """Whether it answers within so long; if not, why."""
        ...


@dataclass(slots=True)
class Report:
    """What a run came to."""

    findings: list[Finding]
    """Of its last look."""
    done: list[str] = field(default_factory=list)
    """What it did, in words."""

    @property
    def ok(self) -> bool:
        """Whether all was well at its end."""
        return all(one.ok for one in self.findings)


@dataclass(slots=True)
class Monitor:
    """One run. `telling` None: nobody is told; an empty `restart`: nothing is restarted."""

    eyes: Eyes
    limits: Limits
    restart: Sequence[str]
    second_look_s: float
    state: State
    telling: Telling | None
    clock: Clock
    pause: Callable[[float], None] = time.sleep

    def run(self) -> Report:
        """Look, and do what is to be done. Ends within `WHOLE_S`."""
        ends_s = self.clock.monotonic_s() + WHOLE_S
        if self.telling is not None:
            self.telling.again()
        report = Report(self._look(self._confirmed(self.eyes.gather())))
        why = next((one for one in report.findings if one.restart), None)
        if why is not None and self.restart:
            self._try_restart(report, ends_s)
        self.state.restarts.saw(self._now, trouble=any(one.restart for one in report.findings))
        if self.telling is not None:
            self.telling.finish(ends_s - self.clock.monotonic_s())
        return report

    @property
    def _now(self) -> datetime:
        return self.clock.now()

    def _confirmed(self, facts: Facts) -> Facts:
        """Of a daemon that nobody hears once, a second thought."""
        if facts.port is not Port.REFUSED:
            return facts
        self.pause(CONFIRM_S)
        port, _ = self.eyes.ping(CONFIRM_S)
        return self.eyes.gather() if port is Port.ANSWERS else facts

    def _look(self, facts: Facts) -> list[Finding]:
        findings = judge(facts, self.limits, self._now)
        now_s, state = self._now.timestamp(), self.state
        state.unanswered_s = None if facts.port is Port.ANSWERS else state.unanswered_s or now_s
        if state.unanswered_s is not None:
            for_s = now_s - state.unanswered_s
            findings = [_no_longer(one) if for_s > one.waits_s else one for one in findings]
        if self.telling is not None:
            self.telling.take(findings, self._now)
        return findings

    def _try_restart(self, report: Report, ends_s: float) -> None:
        next_at = self.state.restarts.next_at(self._now)
        if next_at is not None:
            report.done.append(f"not restarted again before {next_at.astimezone():%H:%M:%S}")
            return
        self.state.restarts.done(self._now)
        began_s = self.clock.monotonic_s()
        until_s = min(began_s + self.second_look_s, ends_s - LAST_S)
        report.done.append(f"restart: {_run(self.restart, until_s - began_s)}")
        port = self._answers_until(until_s)
        words = f"{self.clock.monotonic_s() - began_s:.0f} s after the restart it"
        if port is not Port.ANSWERS:
            report.done.append(f"{words} does not answer")
            return
        report.done.append(f"{words} answers")
        report.findings = self._look(self.eyes.gather())

    def _answers_until(self, until_s: float) -> Port:
        while True:
            left_s = until_s - self.clock.monotonic_s()
            port, _ = self.eyes.ping(max(LOOK_S, left_s))
            if port is Port.ANSWERS or left_s <= 0:
                return port
            self.pause(LOOK_S)


def _no_longer(finding: Finding) -> Finding:
    """A daemon that has been starting or stopping for too long is down."""
    if not finding.waits_s:
        return finding
    words, restart = f"{finding.words}, for too long", CHECKS[finding.check].restarts
    return Finding(finding.check, words, ok=False, facts=finding.facts, restart=restart)


def _run(command: Sequence[str], within_s: float) -> str:
    """What became of the operator's command; one that takes longer is left running."""
    shown = " ".join(command)
    try:
        child = subprocess.Popen(  # noqa: S603 - the operator's own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return f"{shown}: {error.strerror or error}"
    try:
        _, said = child.communicate(timeout=max(1.0, within_s))
    except subprocess.TimeoutExpired:
        return f"{shown}: it is still at it after {within_s:.0f} s"
    last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"{shown}: exit code {child.returncode}" + "".join(
        f", {line[:200]}" for line in last if child.returncode
    )
