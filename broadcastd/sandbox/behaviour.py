"""How the sandbox misbehaves: latency, errcodes, outages; settable while it runs. Time is handed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from random import Random
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from broadcastd.sandbox.endpoints import SENDS, named

AFTER_SEND = "_after_send"
_SENDS = frozenset(SENDS)


class Kind(StrEnum):
    """What an outage does to a call.

    Those that take the answer away, all but `refuse`, also exist with `_after_send`: delivered, then lost.
    """

    REFUSE = "refuse"  # nobody listens on the API port
    HANG = "hang"  # the request is read, the answer never comes
    RESET = "reset"  # the connection is reset once the request was read
    HTTP_412 = "http_412"
    HTTP_429 = "http_429"
    HTTP_500 = "http_500"
    HTTP_502 = "http_502"
    HTTP_503 = "http_503"
    HTTP_504 = "http_504"
    GARBAGE = "garbage"  # 200 with a page that is no JSON
    EMPTY = "empty"  # 200 with no body
    HALF = "half"  # half an answer, then closed
    REDIRECT = "redirect"  # 302 to a path that records who followed
    ENDLESS = "endless"  # 200 with a body that never ends
    # These three bring the true answer in the end:
    SLOW = "slow"  # after `seconds`
    TRICKLE = "trickle"  # one byte after the other, in `seconds` in all
    WRONG_TYPE = "wrong_type"  # as text/html


_ANSWERED = frozenset({Kind.SLOW, Kind.TRICKLE, Kind.WRONG_TYPE})


def is_looked_at(outage: str) -> bool:
    """Whether the call is answered as ever, for the record if not for the caller."""
    return outage.endswith(AFTER_SEND) or outage in _ANSWERED


def _endpoint(name: str) -> str:
    return named(name).name


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FaultSpec(_Spec):
    """How often a fault strikes: a share of the calls, at most `count` of them, for `duration_s`."""

    share: float = Field(1.0, ge=0, le=1)
    count: int | None = Field(None, ge=1)
    duration_s: float | None = Field(None, gt=0)
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None


class OutageSpec(FaultSpec):
    """An outage: a `Kind`, with `_after_send` if the message is to be delivered all the same.

    `seconds`: how long `slow` and `trickle` take, for all of them that are at work.
    """

    kind: str
    seconds: float = Field(5.0, gt=0)

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        kind = self.kind.removesuffix(AFTER_SEND)
        if kind not in list(Kind) or (kind != self.kind and kind in {Kind.REFUSE, *_ANSWERED}):
            raise ValueError(
                f"kind must be one of {', '.join(Kind)} (or one with {AFTER_SEND}), not {self.kind}"
            )
        if kind == Kind.REFUSE and (self.share < 1 or self.count or self.endpoint):
            raise ValueError("refuse takes only duration_s: a closed port cannot tell calls apart")
        return self


def _error_spec(value: object) -> object:
    return {"share": value} if isinstance(value, int | float) else value


def _outage_spec(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


class Change(_Spec):
    """A change at run time: what is named is replaced as a whole, the rest stays.

    `latency_ms`: a number, or [from, to]. `errors`: errcode (or `endpoint:errcode`) to a share or a
    `FaultSpec`; without an endpoint it strikes the sends. `outages`: kinds or `OutageSpec`s; without an
    endpoint they strike every call.
    """

    latency_ms: float | tuple[float, float] | None = None
    errors: dict[str, Annotated[FaultSpec, BeforeValidator(_error_spec)]] | None = None
    outages: list[Annotated[OutageSpec, BeforeValidator(_outage_spec)]] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = _range(self.latency_ms or 0)
        if not 0 <= low <= high:
            raise ValueError("latency_ms must be a number from 0 on, or [from, to]")
        for key in self.errors or {}:
            _error_key(key)
        return self


@dataclass(slots=True)
class Fault:
    """A fault at work: `name` is an errcode or an outage's kind; `left` counts down, -1 is without end."""

    name: str
    endpoints: frozenset[str] | None
    share: float
    left: int
    until: float

    def strikes(self, endpoint: str, now: float) -> bool:
        """Whether it can strike this call at all."""
        return self.left != 0 and now < self.until and (self.endpoints is None or endpoint in self.endpoints)

    def describe(self, now: float) -> dict[str, object]:
        """For the control."""
        return {
            "name": self.name,
            "endpoints": sorted(self.endpoints) if self.endpoints else "all",
            "share": self.share,
            "left": None if self.left < 0 else self.left,
            "left_s": None if self.until == inf else round(self.until - now, 3),
        }


class Behaviour:
    """The present misbehaviour. All chance comes from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)  # noqa: S311  # repeatable on purpose
        self._latency_ms = (0.0, 0.0)
        self._errors: list[Fault] = []
        self._outages: list[Fault] = []
        self.outage_s: float = OutageSpec.model_fields["seconds"].default

    def change(self, change: Mapping[str, Any], now: float) -> None:
        """Apply a `Change`; `ValueError` says in one line what is wrong with it."""
        try:
            asked = Change.model_validate(dict(change))
        except ValidationError as error:
            raise ValueError(_readable(error)) from error
        if asked.latency_ms is not None:
            self._latency_ms = _range(asked.latency_ms)
        if asked.errors is not None:
            self._errors = [_error_fault(key, spec, now) for key, spec in asked.errors.items() if spec.share]
        if asked.outages is not None:
            self._outages = []
            for spec in asked.outages:
                self._add_outage(spec, now)

    def add_outage(self, outage: Mapping[str, Any], now: float) -> None:
        """One outage more (an `OutageSpec`); `ValueError` as in `change`."""
        try:
            self._add_outage(OutageSpec.model_validate(dict(outage)), now)
        except ValidationError as error:
            raise ValueError(_readable(error)) from error

    def outage(self, endpoint: str, now: float) -> str:
        """The outage that strikes this call, or an empty text."""
        return self._pick(self._outages, endpoint, now) if self._outages else ""

    def error(self, endpoint: str, now: float) -> int:
        """The errcode that this call is answered whatever it says, or 0."""
        return int(self._pick(self._errors, endpoint, now) or 0) if self._errors else 0

    def latency_s(self) -> float:
        """How long this answer takes."""
        low, high = self._latency_ms
        return 0.0 if high == 0 else self._random.uniform(low, high) / 1000

    def refused_until(self, now: float) -> float:
        """Until when the API port is to be closed: 0 when it is to be open."""
        return max(
            (fault.until for fault in self._outages if _refuses(fault) and now < fault.until), default=0.0
        )

    def describe(self, now: float) -> dict[str, object]:
        """The present state, for the control."""
        return {
            "latency_ms": list(self._latency_ms),
            "errors": [fault.describe(now) for fault in self._errors if fault.left and now < fault.until],
            "outages": [fault.describe(now) for fault in self._outages if fault.left and now < fault.until],
        }

    def _add_outage(self, spec: OutageSpec, now: float) -> None:
        self._outages.append(_outage_fault(spec, now))
        if "seconds" in spec.model_fields_set:
            self.outage_s = spec.seconds

    def _pick(self, faults: list[Fault], endpoint: str, now: float) -> str:
        # One draw for all, so that each fault keeps exactly its share.
        drawn = self._random.random()
        for fault in faults:
            if not fault.strikes(endpoint, now) or _refuses(fault):
                continue
            if drawn < fault.share:
                fault.left -= fault.left > 0
                return fault.name
            drawn -= fault.share
        return ""


def _range(latency_ms: float | tuple[float, float]) -> tuple[float, float]:
    return latency_ms if isinstance(latency_ms, tuple) else (latency_ms, latency_ms)


def _refuses(fault: Fault) -> bool:
    return fault.name == Kind.REFUSE


def _error_key(key: str) -> tuple[int, str]:
    endpoint, _, code = key.rpartition(":")
    try:
        endpoint = named(endpoint).name if endpoint else ""
    except ValueError as error:
        raise ValueError(f"errors: {error}") from error
    try:
        errcode = int(code)
    except ValueError:
        raise ValueError(f"errors: {code} is not an errcode") from None
    if errcode == 0:
        raise ValueError("errors: 0 is not an error")
    return errcode, endpoint


def _error_fault(key: str, spec: FaultSpec, now: float) -> Fault:
    errcode, named = _error_key(key)
    endpoint = named or spec.endpoint
    return _fault(str(errcode), spec, frozenset({endpoint}) if endpoint else _SENDS, now)


def _outage_fault(spec: OutageSpec, now: float) -> Fault:
    return _fault(spec.kind, spec, frozenset({spec.endpoint}) if spec.endpoint else None, now)


def _fault(name: str, spec: FaultSpec, endpoints: frozenset[str] | None, now: float) -> Fault:
    until = inf if spec.duration_s is None else now + spec.duration_s
    return Fault(name, endpoints, spec.share, -1 if spec.count is None else spec.count, until)


def _readable(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    return f"{place}: {text}" if place else text
