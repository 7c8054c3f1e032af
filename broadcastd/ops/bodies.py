"""A request's body as a frame's fields: JSON as on the frames' port, or a form with the old URL's names."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import parse

FORM_FIELDS: Mapping[str, str] = {
    "flag": "flag",
    "id": "ref",
    "phone": "phone",
    "content": "content",
    "key": "key",
    "account": "account",
    "token": "token",
}
"""A form's name to the frame's: those of the old program's URL, and those that it lacked."""


def _form(body: bytes) -> dict[str, Any] | Refusal:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=len(FORM_FIELDS),
        )
    except UnicodeDecodeError:
        return Refusal(ErrorCode.BAD_FRAME, "the form is not UTF-8")
    except ValueError as error:
        return Refusal(ErrorCode.BAD_FRAME, f"not a valid form: {error}")
    fields: dict[str, Any] = {}
    for name, value in pairs:
        known = FORM_FIELDS.get(name)
        if known is None:
            accepted = ", ".join(FORM_FIELDS)
            return Refusal(ErrorCode.BAD_FRAME, f"unknown field {name[:40]!r}; accepted: {accepted}")
        if known in fields:
            return Refusal(ErrorCode.BAD_FRAME, f"{name} stands twice in the form")
        fields[known] = value
    return fields


READERS: Mapping[str, Callable[[bytes], dict[str, Any] | Refusal]] = {
    "application/json": parse,
    "application/x-www-form-urlencoded": _form,
}
"""By Content-Type. Of these a page elsewhere can send the form only, and then says where it comes from."""


def reader_of(content_type: str | None) -> Callable[[bytes], dict[str, Any] | Refusal] | str:
    """How to read it, or why it is not read."""
    kind, _, parameters = (content_type or "").partition(";")
    reader = READERS.get(kind.strip().lower())
    named = parameters.strip().lower().replace('"', "")
    if reader is None or named not in ("", "charset=utf-8", "charset=utf8"):
        return f"Content-Type must be one of: {', '.join(READERS)} (in UTF-8)"
    return reader
