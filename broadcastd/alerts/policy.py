"""What of all that is noticed becomes an alert, and when. Pure: time is handed in.

A trouble is told at once, again at growing intervals while it lasts, and once when it is over; so is one that
is back: who was told that it is over is told when it is not. Of one that keeps coming back the end waits for
quiet: till then it is told as often as one that lasts, and the last word is never a wrong one. Refused frames
are gathered. Over all there is a most an hour.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from broadcastd.notices import Notice, NoticeKind

Facts = Mapping[str, str | int | float]

REMINDERS_S = (15 * 60.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
"""From one alert of a trouble that lasts to the next; then daily."""
FLAPS_FROM = 3
"""One that is there for the third time without quiet between comes and goes: its end is not told at once."""
QUIET_S = 15 * 60.0
"""Away for so long, it is over, and what comes then is a new one."""
GATHER_S = 600.0
"""Refused frames: one alert in this time; while there is no quiet between, the time doubles."""
LONGEST_GATHER_S = 3600.0
MOST_EXAMPLES = 5
MOST_AN_HOUR = 30
MOST_EVENTS_AN_HOUR = 20
"""Of finished jobs and refused frames: room is left for troubles."""
SUM_UP_S = 600.0
"""What was too much is summed up so long after the first of it."""
MOST_TROUBLES = 500
HOUR_S = 3600.0

_EVENTS = (NoticeKind.JOB_FINISHED, NoticeKind.FRAME_REFUSED)


@dataclass(frozen=True, slots=True)
class Alert:
    """One message to send."""

    kind: NoticeKind | None
    """None: only `more`."""
    at: datetime
    about: str = ""
    facts: Facts = field(default_factory=dict)
    over: bool = False
    since: datetime | None = None
    """Of a trouble: when it began, the last time."""
    reminder: bool = False
    """It was told before."""
    again: int = 0
    """How often it was said, or came back, since it was told last; of refused frames: how many they are."""
    times: int = 1
    """Of a trouble: how often it was there, without quiet between."""
    examples: tuple[Facts, ...] = ()
    """The last of the refused frames."""
    more: Mapping[str, int] = field(default_factory=dict)
    """Kind to how many alerts were too many."""

    @property
    def flaps(self) -> bool:
        """Whether it comes and goes, so that its end is told after `QUIET_S` only."""
        return self.times >= FLAPS_FROM


@dataclass(slots=True)
class _Trouble:
    """One kind about one thing. Moments are seconds since 1970."""

    facts: dict[str, str | int | float]
    since_s: float
    next_s: float
    step: int = 0
    on: bool = True
    told: bool = False
    """The last word that went out is that it is there."""
    said: int = 0
    """Since something of it was told last."""
    times: int = 1
    """How often it was there, without quiet between."""
    remind_s: float = 0.0
    """While it is away: when it would have been reminded of."""


@dataclass(slots=True)
class _Refused:
    """The refused frames that wait to be told."""

    next_s: float = 0.0
    interval_s: float = GATHER_S
    count: int = 0
    examples: list[dict[str, str | int | float]] = field(default_factory=list)


class Policy:
    """Decides. `state` may be kept, and handed to the next one (`broadcastd monitor` runs once a minute)."""

    def __init__(
        self,
        off: Collection[NoticeKind] = (),
        *,
        job_finished: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        kept = state or {}
        self._off = frozenset(off) | (frozenset() if job_finished else {NoticeKind.JOB_FINISHED})
        self._troubles = {key: _Trouble(**one) for key, one in kept.get("troubles", {}).items()}
        self._refused = _Refused(**kept.get("refused", {}))
        self._told_s: list[float] = list(kept.get("told_s", ()))
        self._more: Counter[str] = Counter(kept.get("more", {}))
        self._sum_up_s: float | None = kept.get("sum_up_s")

    @property
    def state(self) -> dict[str, Any]:
        """All that it remembers, as JSON takes it."""
        return {
            "troubles": {key: dataclasses.asdict(one) for key, one in self._troubles.items()},
            "refused": dataclasses.asdict(self._refused),
            "told_s": self._told_s,
            "more": dict(self._more),
            "sum_up_s": self._sum_up_s,
        }

    def take(self, notice: Notice, now: datetime) -> list[Alert]:
        """What is to be told of a notice at once."""
        if notice.kind in self._off:
            return []
        if notice.kind is NoticeKind.FRAME_REFUSED:
            return self._refuse(notice, now)
        if not notice.lasts:
            return self._let_out(Alert(notice.kind, now, notice.about, notice.facts))
        return self._end(notice, now) if notice.over else self._begin(notice, now)

    def due(self, now: datetime) -> list[Alert]:
        """Reminders, and what was gathered, whose time has come."""
        now_s = now.timestamp()
        alerts = []
        for key, one in list(self._troubles.items()):
            if one.next_s <= now_s:
                alerts += self._again(key, one, now)
        refused = self._refused
        if refused.count and refused.next_s <= now_s:
            refused.interval_s = min(LONGEST_GATHER_S, refused.interval_s * 2)
            alerts += self._tell_refused(now)
        if self._sum_up_s is not None and self._sum_up_s <= now_s:
            alerts.append(Alert(None, now, more=dict(self._more)))
            self._more.clear()
            self._sum_up_s = None
        return alerts

    def next_at(self) -> datetime | None:
        """When `due` has something to look at."""
        moments = list(self._moments())
        return datetime.fromtimestamp(min(moments), UTC) if moments else None

    def _moments(self) -> Iterator[float]:
        yield from (one.next_s for one in self._troubles.values())
        if self._refused.count:
            yield self._refused.next_s
        if self._sum_up_s is not None:
            yield self._sum_up_s

    # -- troubles --------------------------------------------------------------------------------------

    def _begin(self, notice: Notice, now: datetime) -> list[Alert]:
        key, now_s = f"{notice.kind} {notice.about}", now.timestamp()
        one = self._troubles.get(key)
        if one is None:
            if not self._has_room():
                self._count_as_more(notice.kind, now_s)
                return []
            one = self._troubles[key] = _Trouble(dict(notice.facts), now_s, now_s + REMINDERS_S[0])
            if notice.known:
                one.told = True
                return []
            return self._tell(key, one, now)
        one.said += 1
        one.facts = dict(notice.facts)
        return [] if one.on else self._back(key, one, now)

    def _back(self, key: str, one: _Trouble, now: datetime) -> list[Alert]:
        one.on, one.since_s, one.times = True, now.timestamp(), one.times + 1
        if one.told:
            # That it went away was not told: nothing is new to who was told of it.
            one.next_s = one.remind_s
            return []
        one.step, one.next_s = 0, now.timestamp() + REMINDERS_S[0]
        return self._tell(key, one, now)

    def _end(self, notice: Notice, now: datetime) -> list[Alert]:
        key = f"{notice.kind} {notice.about}"
        one = self._troubles.get(key)
        if one is None or not one.on:
            return []
        one.on, one.remind_s, one.next_s = False, one.next_s, now.timestamp() + QUIET_S
        one.facts = {**one.facts, **notice.facts}
        if not one.told or one.times >= FLAPS_FROM:
            return []
        return self._tell_end(key, one, now)

    def _tell_end(self, key: str, one: _Trouble, now: datetime) -> list[Alert]:
        alert = self._alert(key, one, now, over=True)
        one.told, one.said = False, 0
        return self._let_out(alert)

    def _again(self, key: str, one: _Trouble, now: datetime) -> list[Alert]:
        """A trouble whose next look has come."""
        if not one.on:
            del self._troubles[key]
            return self._tell_end(key, one, now) if one.told else []
        one.step = min(one.step + 1, len(REMINDERS_S) - 1)
        one.next_s = now.timestamp() + REMINDERS_S[one.step]
        return self._tell(key, one, now, reminder=True)

    def _tell(self, key: str, one: _Trouble, now: datetime, *, reminder: bool = False) -> list[Alert]:
        alerts = self._let_out(self._alert(key, one, now, reminder=reminder))
        if alerts:
            one.told = True
            one.said = 0
        return alerts

    @staticmethod
    def _alert(
        key: str, one: _Trouble, now: datetime, *, over: bool = False, reminder: bool = False
    ) -> Alert:
        kind, _, about = key.partition(" ")
        since = datetime.fromtimestamp(one.since_s, UTC)
        return Alert(
            NoticeKind(kind), now, about, dict(one.facts), over, since, reminder, one.said, one.times
        )

    def _has_room(self) -> bool:
        if len(self._troubles) >= MOST_TROUBLES:
            for key in [key for key, one in self._troubles.items() if not one.on]:
                del self._troubles[key]
        return len(self._troubles) < MOST_TROUBLES

    # -- refused frames --------------------------------------------------------------------------------

    def _refuse(self, notice: Notice, now: datetime) -> list[Alert]:
        refused, now_s = self._refused, now.timestamp()
        refused.count += 1
        refused.examples = [*refused.examples, dict(notice.facts)][-MOST_EXAMPLES:]
        if refused.next_s > now_s:
            return []
        if refused.count == 1:
            refused.interval_s = GATHER_S
        return self._tell_refused(now)

    def _tell_refused(self, now: datetime) -> list[Alert]:
        refused = self._refused
        alert = Alert(NoticeKind.FRAME_REFUSED, now, again=refused.count, examples=tuple(refused.examples))
        refused.next_s = now.timestamp() + refused.interval_s
        refused.count, refused.examples = 0, []
        return self._let_out(alert)

    # -- the most an hour ------------------------------------------------------------------------------

    def _let_out(self, alert: Alert) -> list[Alert]:
        assert alert.kind is not None
        now_s = alert.at.timestamp()
        self._told_s = [moment for moment in self._told_s if now_s - HOUR_S < moment <= now_s]
        most = MOST_EVENTS_AN_HOUR if alert.kind in _EVENTS else MOST_AN_HOUR
        if len(self._told_s) >= most:
            self._count_as_more(alert.kind, now_s)
            return []
        self._told_s.append(now_s)
        return [alert]

    def _count_as_more(self, kind: NoticeKind, now_s: float) -> None:
        self._more[kind.value] += 1
        if self._sum_up_s is None:
            self._sum_up_s = now_s + SUM_UP_S
