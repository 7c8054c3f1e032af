"""A frame's check: from JSON to a request or an op, with errors that name the field."""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from broadcastd.model import OnUnknown, Request
from broadcastd.refusals import ErrorCode, Refusal

FrameT = TypeVar("FrameT", bound="Frame")

MOST_FLAG = 1_000_000


def _number_as_text(value: Any) -> Any:
    """PHP callers send ids and phone numbers as numbers now and then."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _flag(value: Any) -> Any:
    """The old client sends `flag` as a string."""
    return (
        int(value)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit()
        else value
    )


Name = Annotated[str, BeforeValidator(_number_as_text), Field(min_length=1, max_length=128)]
TextValue = Annotated[str, BeforeValidator(_number_as_text), Field(max_length=4096)]


def _moment(value: Any) -> datetime:
    """ISO 8601 with its offset, or Unix seconds: without a zone each side would take it for another one."""
    wanted = 'accepted: "2026-01-31T08:00:00+08:00", or seconds since 1970'
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            raise ValueError(wanted)  # noqa: TRY004 - pydantic wants a ValueError
        if moment.tzinfo is None:
            raise ValueError(f"has no offset; {wanted}")
        moment = moment.astimezone(UTC)
        if not EARLIEST <= moment <= LATEST:
            raise ValueError(f"out of range; {wanted}")
    except (OverflowError, OSError):
        raise ValueError(f"out of range; {wanted}") from None
    except ValueError as error:
        raise ValueError(wanted if wanted not in str(error) else str(error)) from None
    # The ledger keeps milliseconds: what is shown is what was meant.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Moment = Annotated[datetime, PlainValidator(_moment)]
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def some_of(known: Collection[str]) -> BeforeValidator:
    """One of `known`, or a list of them."""

    def check_known(value: Any) -> list[str]:
        values = value if isinstance(value, list) else [value]
        unknown = [one for one in values if one not in known]
        if unknown or not values:
            what = f"unknown {str(unknown[0])[:40]!r}" if unknown else "empty"
            raise ValueError(f"{what}; accepted: {', '.join(known)}, one or a list of them")
        return list(dict.fromkeys(values))

    return BeforeValidator(check_known)


class Frame(BaseModel):
    """What every frame may have. Unknown fields are refused: a misspelt one must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str | None = None


class BroadcastFrame(Frame):
    """`{"content": …}`: a broadcast."""

    content: str
    phone: TextValue | None = None
    key: Name | None = None
    ref: Name | None = None
    flag: Annotated[int, BeforeValidator(_flag), Field(ge=0, le=MOST_FLAG)] | None = None
    account: Name = "default"
    to: Annotated[list[Name], Field(min_length=1)] | None = None
    channels: Annotated[list[Name], Field(min_length=1)] | None = None
    template: Name | None = None
    data: dict[Name, TextValue] | None = None
    dry_run: bool = False
    not_before: Moment | None = None
    not_after: Moment | None = None
    on_unknown: Annotated[OnUnknown, Field(strict=False)] | None = None

    def request(self) -> Request:
        """The model's value."""
        return Request(
            content=self.content,
            phone=self.phone or "",
            key=self.key,
            ref=self.ref,
            flag=self.flag,
            account=self.account,
            to=None if self.to is None else tuple(dict.fromkeys(self.to)),
            channels=None if self.channels is None else tuple(dict.fromkeys(self.channels)),
            template=self.template,
            extra=self.data or {},
            dry_run=self.dry_run,
            not_before=self.not_before,
            not_after=self.not_after,
            on_unknown=self.on_unknown,
        )


def parse(line: bytes) -> dict[str, Any] | Refusal:
    """One line as a JSON object."""
    try:
        value = orjson.loads(line)
    except ValueError as error:
        return Refusal(ErrorCode.BAD_JSON, f"not valid JSON: {error}")
    if not isinstance(value, dict):
        return Refusal(ErrorCode.BAD_FRAME, "a frame is a JSON object")
    # What is verified must read the same to whoever looks at it: JSON libraries take the last of two.
    twice = repeated_name(line) if value.get("op") == "verify" else None
    if twice is not None:
        return Refusal(ErrorCode.BAD_FRAME, f"the name {twice[:40]!r} stands twice in one object")
    return value


def repeated_name(text: bytes) -> str | None:
    """A name that stands twice in one object of a JSON text that is known to be valid; None without any."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        found.extend(name for name in names if names.count(name) > 1)

    try:
        json.loads(text, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return "?"  # nested or written as no report is
    return found[0] if found else None


def check(kind: type[FrameT], fields: dict[str, Any]) -> FrameT | Refusal:
    """The frame that `fields` make, or what is wrong with which of them."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        return Refusal(ErrorCode.BAD_FRAME, "; ".join(_in_words(kind, one) for one in error.errors()[:5]))


def _in_words(kind: type[Frame], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])[:80]
    if problem["type"] == "extra_forbidden":
        return f"unknown field {where!r}; accepted: {', '.join(kind.model_fields)}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
