"""Daily quotas and minute limits of each endpoint, and their reset. Time is handed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from broadcastd.sandbox.endpoints import BY_NAME, BY_PATH, Endpoint, named

# Reference, section 11: midnight in Asia/Shanghai is assumed. No daylight saving time since 1991.
SHANGHAI = timezone(timedelta(hours=8))
# Reference, section 5: resets of an account in a month.
CLEARINGS_PER_MONTH = 10
# Reference, section 2: the template limit is raised beyond so many followers. By how much is not known: ten
# times at each step (choice).
TEMPLATE_STEPS = (100_000, 1_000_000, 10_000_000)
# What quota/get calls the limit of an endpoint that has none.
NO_LIMIT = 2_000_000_000
ALL = "all"
_MINUTE_S = 60.0


class QuotaSpec(BaseModel):
    """A limit of one endpoint: `daily` and `per_minute` calls (0: none), `used` of today's so far."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    daily: int | None = Field(None, ge=0)
    per_minute: int | None = Field(None, ge=0)
    used: int | None = Field(None, ge=0)


def _daily_alone(value: object) -> object:
    return {"daily": value} if isinstance(value, int) else value


_SPECS = TypeAdapter(dict[str, Annotated[QuotaSpec, BeforeValidator(_daily_alone)]])


@dataclass(slots=True)
class Meter:
    """The calls of one endpoint, today and in this minute."""

    endpoint: Endpoint
    daily: int
    per_minute: int
    used: int = 0
    minute: int = 0
    used_in_minute: int = 0

    def describe(self) -> dict[str, object]:
        """For the control."""
        return {"daily": self.daily, "per_minute": self.per_minute, "used": self.used, "left": self.left}

    @property
    def left(self) -> int:
        """What is left of today's."""
        return max(0, (self.daily or NO_LIMIT) - self.used)


def midnight_after(now: float) -> float:
    """The next midnight in Asia/Shanghai."""
    here = datetime.fromtimestamp(now, UTC).astimezone(SHANGHAI)
    return (here.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)).timestamp()


def month_of(now: float) -> str:
    """The calendar month in Asia/Shanghai, as 2026-07."""
    return f"{datetime.fromtimestamp(now, SHANGHAI):%Y-%m}"


class Quotas:
    """What is left of each endpoint's calls.

    A call counts when its token is good, whatever it is answered then (choice: the reference does not say
    which calls count); one that is refused for a limit does not.
    """

    def __init__(self, followers: int, now: float) -> None:
        self._meters = {name: Meter(row, row.daily, row.per_minute) for name, row in BY_NAME.items()}
        self._meters["template"].daily *= 10 ** sum(followers > step for step in TEMPLATE_STEPS)
        self._day_ends = midnight_after(now)
        self._cleared_in = ""
        self._clearings = 0

    def change(self, changes: Mapping[str, object], now: float) -> None:
        """Set limits: endpoint (a name, a path, or `all`) to a `QuotaSpec` or to its `daily` alone.

        `ValueError` says in one line what is wrong.
        """
        self._turn(now)
        try:
            specs = _SPECS.validate_python(dict(changes))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"quotas: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        for name, spec in specs.items():
            meters = list(self._meters.values()) if name == ALL else [self._meters[named(name).name]]
            for meter in meters:
                _change(meter, spec)

    def spend(self, name: str, now: float) -> int:
        """Take one call of an endpoint: 0, or the errcode of the limit that is reached."""
        if now >= self._day_ends:
            self._turn(now)
        meter = self._meters[name]
        if meter.daily and meter.used >= meter.daily:
            return meter.endpoint.over_errcode
        if meter.per_minute:
            minute = int(now / _MINUTE_S)
            if minute != meter.minute:
                meter.minute, meter.used_in_minute = minute, 0
            if meter.used_in_minute >= meter.per_minute:
                return 45011
            meter.used_in_minute += 1
        meter.used += 1
        return 0

    def clear(self, now: float) -> int:
        """All of today's calls are forgotten: 0, or 48006 when the month's resets are used up.

        Choice: that includes the 100 mass calls of a day, not the 4 messages of a follower and month.
        """
        self._turn(now)
        month = month_of(now)
        if month != self._cleared_in:
            self._cleared_in, self._clearings = month, 0
        if self._clearings >= CLEARINGS_PER_MONTH:
            return 48006
        self._clearings += 1
        self._forget()
        return 0

    def answer(self, path: object, now: float) -> dict[str, object] | None:
        """What quota/get answers of a path; None when there is no such path (76021)."""
        self._turn(now)
        endpoint = BY_PATH.get(path) if isinstance(path, str) else None
        if endpoint is None:
            return None
        meter = self._meters[endpoint.name]
        quota = {"daily_limit": meter.daily or NO_LIMIT, "used": meter.used, "remain": meter.left}
        answer: dict[str, object] = {"errcode": 0, "errmsg": "ok", "quota": quota}
        if meter.per_minute:
            answer["rate_limit"] = {"call_count": meter.per_minute, "refresh_second": int(_MINUTE_S)}
        return answer

    def describe(self, now: float) -> dict[str, object]:
        """For the control: every endpoint that has a limit or was called today."""
        self._turn(now)
        meters = self._meters.items()
        used_up = self._cleared_in == month_of(now)
        return {
            "endpoints": {
                name: meter.describe()
                for name, meter in meters
                if meter.daily or meter.per_minute or meter.used
            },
            "resets_in_s": round(self._day_ends - now, 3),
            "clearings_left": CLEARINGS_PER_MONTH - (self._clearings if used_up else 0),
        }

    def _turn(self, now: float) -> None:
        if now >= self._day_ends:
            self._day_ends = midnight_after(now)
            self._forget()

    def _forget(self) -> None:
        for meter in self._meters.values():
            meter.used = 0


def _change(meter: Meter, spec: QuotaSpec) -> None:
    if spec.daily is not None:
        meter.daily = spec.daily
    if spec.per_minute is not None:
        meter.per_minute = spec.per_minute
    if spec.used is not None:
        meter.used = spec.used
