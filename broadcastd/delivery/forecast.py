"""What a job needs of the day's calls against what is left of them. Pure."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from broadcastd.model import Quota

ABOUT = "quota of "
"""How a job's warnings about it begin: each look at the figures replaces them."""


A_CALL = {"mass": 10_000}
"""Recipients of one call; of the other channels: one."""


@dataclass(frozen=True, slots=True)
class Reset:
    """When WeChat's day begins."""

    at: str
    """As 00:00."""
    timezone: ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """The next one after a moment; both aware."""
        return _next_reset(self, moment)


@functools.lru_cache(maxsize=100)  # each frame asks for that after the last look at the figures
def _next_reset(reset: Reset, moment: datetime) -> datetime:
    here = moment.astimezone(reset.timezone)
    hour, minute = map(int, reset.at.split(":"))
    today = here.replace(hour=hour, minute=minute, second=0, microsecond=0)
    # By the wall clock there: a day is not 24 hours everywhere.
    return (today if today > here else today + timedelta(days=1)).astimezone(moment.tzinfo)


@dataclass(frozen=True, slots=True)
class Seen:
    """Figures, and when WeChat said them."""

    quota: Quota
    at: datetime

    def on(self, moment: datetime, reset: Reset) -> Quota:
        """What is left at a moment: after a reset, everything."""
        quota = self.quota
        if moment < reset.after(self.at):
            return quota
        return Quota(quota.daily_limit, 0, quota.daily_limit, quota.rate_calls, quota.rate_s)


@dataclass(frozen=True, slots=True)
class Need:
    """One channel of a job. None: not known."""

    channel: str
    needed: int | None
    """Calls."""
    upper_bound: bool
    """Who is reached by an earlier channel needs no call of this one; how many that are nobody knows."""
    before: int
    """Calls that jobs before it may still need."""
    quota: Quota | None
    age_s: float | None

    @property
    def missing(self) -> int:
        """How many calls too few are left."""
        if self.needed is None or self.quota is None:
            return 0
        return max(0, self.needed + self.before - self.quota.left)

    @property
    def words(self) -> str:
        """One clause of the forecast."""
        if self.quota is None:
            return f"{self.channel}: what is left is not known yet"
        left = f"{self.quota.left:,} of {self.quota.daily_limit:,} calls are left today"
        if self.needed is None:
            return f"{self.channel}: {left}, how many are needed is not known yet"
        needs = f"up to {self.needed:,} are needed" if self.upper_bound else f"{self.needed:,} are needed"
        before = f" after up to {self.before:,} for jobs before it" if self.before else ""
        return f"{self.channel}: {needs}{before}, {left}"


@dataclass(frozen=True, slots=True)
class Forecast:
    """One job, channel by channel."""

    needs: tuple[Need, ...]

    @property
    def fits(self) -> bool | None:
        """Whether enough is left; None: not known."""
        if any(need.missing for need in self.needs):
            return False
        unknown = any(need.needed is None or need.quota is None for need in self.needs)
        return None if unknown else True

    @property
    def words(self) -> str:
        """For people."""
        return "; ".join(need.words for need in self.needs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know; empty when enough is left."""
        return tuple(
            f"{ABOUT}{need.words}: {need.missing:,} {'may be ' if need.upper_bound else ''}too few;"
            " who is left waits until it is back"
            for need in self.needs
            if need.missing
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What is forecast."""

    channels: Sequence[str]
    recipients: int | None
    begins: datetime
    before: int = 0


def forecast(asked: Asked, seen: Mapping[str, Seen], reset: Reset, now: datetime) -> Forecast:
    """The first channel is tried for everybody, a later one for whom those before it do not reach."""
    begins = max(asked.begins, now)
    needs = []
    for no, channel in enumerate(asked.channels):
        one = seen.get(channel)
        needs.append(
            Need(
                channel,
                None if asked.recipients is None else _calls(channel, asked.recipients),
                upper_bound=no > 0,
                before=_calls(channel, asked.before),
                quota=None if one is None else one.on(begins, reset),
                age_s=None if one is None else round(max(0.0, (now - one.at).total_seconds()), 1),
            )
        )
    return Forecast(tuple(needs))


def _calls(channel: str, recipients: int) -> int:
    return -(-recipients // A_CALL.get(channel, 1))


def renewed(warnings: Sequence[str], about_quota: Sequence[str]) -> tuple[str, ...]:
    """A job's warnings with these in place of the former ones about quotas."""
    return (*(one for one in warnings if not one.startswith(ABOUT)), *about_quota)
