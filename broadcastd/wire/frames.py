"""A frame's check: from JSON to a request or an op, with errors that name the field."""

from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from broadcastd.model import Request
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
        )


def parse(line: bytes) -> dict[str, Any] | Refusal:
    """One line as a JSON object."""
    try:
        value = orjson.loads(line)
    except ValueError as error:
        return Refusal(ErrorCode.BAD_JSON, f"not valid JSON: {error}")
    if not isinstance(value, dict):
        return Refusal(ErrorCode.BAD_FRAME, "a frame is a JSON object")
    return value


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
    return f"{where}: {problem['msg']}"
