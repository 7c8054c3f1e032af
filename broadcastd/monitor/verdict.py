"""What the monitor makes of what it saw. Pure: facts in, findings out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from broadcastd.notices import Notice, NoticeKind

STARTING_S = 600.0
"""One that takes longer to listen does not start any more; upgrading a ledger takes minutes."""


class Port(StrEnum):
    """What came of a `ping`."""

    ANSWERS = "answers"
    REFUSED = "refused"
    """Nobody listens."""
    SILENT = "silent"
    """Somebody listens, and says nothing in time."""
    FOREIGN = "foreign"
    """What answers is no broadcastd, or takes no frames from here: a restart would mend nothing."""


class Standing(StrEnum):
    """How a daemon stands that does not answer."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Somebody has stopped it."""
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at: what an alert of it is, and whether a restart is tried."""

    kind: NoticeKind | None
    """None: the daemon itself has it told."""
    restarts: bool = False


CHECKS: Mapping[str, Check] = {
    "port": Check(NoticeKind.DAEMON_DOWN, restarts=True),
    "progress": Check(NoticeKind.DAEMON_DOWN, restarts=True),
    "intake": Check(NoticeKind.CANARY_FAILS),
    "plan": Check(NoticeKind.CANARY_FAILS),
    "token": Check(NoticeKind.CANARY_FAILS),
    "stuck": Check(NoticeKind.JOB_STUCK),
    "held": Check(None),
    "disk": Check(NoticeKind.DISK_SHORT),
    "certificate": Check(NoticeKind.EXPIRES_SOON),
}
"""In the order they are shown. docs/monitoring.md tells them."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One of the daemon's own."""

    about: str
    """The key of the settings that names it."""
    ends_at: datetime | None
    why: str = ""
    """Why its end cannot be told."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen. None: it could not be looked at."""

    port: Port
    words: str = ""
    """Why it does not answer."""
    standing: Standing = Standing.UNKNOWN
    canary: Mapping[str, Any] | None = None
    info: Mapping[str, Any] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why there is no `canary` or `info`, though it answers."""
    free_mb: int | None = None
    certificates: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too little."""

    min_free_mb: int
    expires: timedelta
    restart_when_stopped: bool = False
    restart: str = ""
    """The command that starts it again, for the alert; empty: none is in the settings."""
    stopping_s: float = 60.0
    """For how long one that was told to stop may be on its way out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: a check, and what came of it."""

    check: str
    words: str
    ok: bool = True
    about: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    told: bool = False
    """The daemon itself has it told."""
    restart: bool = False
    waits_s: float = 0.0
    """For so long it may change by itself: it is not told, and nothing is done."""

    @property
    def notice(self) -> Notice | None:
        """What is to be told of it; None: nothing."""
        kind = CHECKS[self.check].kind
        if self.ok or self.told or self.waits_s or kind is None:
            return None
        return Notice(kind, self.about, {"reason": self.words, **self.facts})


def judge(facts: Facts, limits: Limits, now: datetime) -> list[Finding]:
    """A finding or more of each check that could be made, in the order of CHECKS."""
    found = [_with_restart(one, limits) for one in (_port(facts, limits), *_of_info(facts))]
    found += _of_canary(facts)
    found += [*_disk(facts, limits), *_certificates(facts, limits, now)]
    order = list(CHECKS)
    return sorted(found, key=lambda one: order.index(one.check))


def _with_restart(finding: Finding, limits: Limits) -> Finding:
    """Of one that is down, how it is started again."""
    if CHECKS[finding.check].kind is not NoticeKind.DAEMON_DOWN or not limits.restart:
        return finding
    return replace(finding, facts={**finding.facts, "restart": limits.restart})


def _port(facts: Facts, limits: Limits) -> Finding:
    if facts.port is Port.ANSWERS:
        return Finding("port", "answers")
    words = facts.words
    if facts.standing in (Standing.STARTING, Standing.STOPPING):
        waits_s = STARTING_S if facts.standing is Standing.STARTING else limits.stopping_s
        return Finding("port", f"{words}; it is {facts.standing}", ok=False, waits_s=waits_s)
    if facts.standing is Standing.STOPPED:
        restart = limits.restart_when_stopped
        words += "; it was stopped" if restart else "; it was stopped, so nobody starts it but you"
        return Finding("port", words, ok=False, restart=restart)
    if facts.standing is Standing.CRASHED:
        words += "; it has died"
    return Finding("port", words, ok=False, restart=facts.port is not Port.FOREIGN)


def _of_info(facts: Facts) -> Iterator[Finding]:
    info = facts.info
    if info is None:
        if why := facts.missing.get("info"):
            yield Finding("progress", f"info: {why}", ok=False)
        return
    progress = info.get("progress", "ok")
    yield Finding("progress", progress, ok=progress == "ok", restart=progress != "ok")
    stuck = info.get("stuck", [])
    for one in stuck:
        words = (
            f"job {one['job']} of account {one['account']} stands still since {one['since']}: {one['why']}"
        )
        said = {"account": one["account"]}
        yield Finding("stuck", words, ok=False, about=one["job"], facts=said, told=one.get("told", False))
    if not stuck:
        yield Finding("stuck", "no job")
    held = [
        f"account {name}: {one['wechat']}"
        for name, one in info["accounts"].items()
        if one["wechat"].startswith("held")
    ]
    if many := info["jobs"]["held"]:
        held.append(f"{many} jobs wait for an operator: broadcastd jobs")
    yield Finding("held", "; ".join(held) or "nothing", ok=not held)


def _of_canary(facts: Facts) -> Iterator[Finding]:
    canary, info = facts.canary, facts.info or {}
    if canary is None:
        if why := facts.missing.get("canary"):
            yield Finding("intake", f"canary: {why}", ok=False, about="intake")
        return
    # What the ledger says of itself, the daemon has told.
    said = info.get("ledger", "ok") != "ok"
    intake = _part("intake", "", canary["intake"], told=said)
    if intake.ok and info.get("accepts") == "draining":
        intake = replace(intake, words="ok; but it drains: nothing new is accepted (broadcastd drain --off)")
    yield intake
    for name, parts in canary["accounts"].items():
        account = info.get("accounts", {}).get(name, {})
        yield _part("plan", name, parts["plan"])
        yield _part("token", name, parts["token"], told=account.get("wechat", "").startswith("held"))


def _part(check: str, account: str, words: str, *, told: bool = False) -> Finding:
    about = f"{check} of account {account}" if account else check
    shown = f"account {account}: {words}" if account else words
    return Finding(check, shown, ok=words == "ok", about=about, told=told)


def _disk(facts: Facts, limits: Limits) -> Iterator[Finding]:
    if facts.free_mb is not None:
        words = f"{facts.free_mb:,} MB are free where the ledger is"
        short = facts.free_mb < limits.min_free_mb
        if short:
            words += f", less than monitor.min_free_mb = {limits.min_free_mb}"
        yield Finding("disk", words, ok=not short)


def _certificates(facts: Facts, limits: Limits, now: datetime) -> Iterator[Finding]:
    for one in facts.certificates:
        if one.ends_at is None:
            yield Finding("certificate", f"{one.about}: {one.why}", ok=False, about=one.about)
            continue
        left = one.ends_at - now
        ok = left > limits.expires
        verb = "has expired on" if left <= timedelta() else "ends on"
        yield Finding(
            "certificate", f"{one.about} {verb} {one.ends_at:%Y-%m-%d %H:%M} UTC", ok=ok, about=one.about
        )
