"""The account's texts: `{content}`, `{phone}`, `{now}`, `{ref}` and `{key}` filled in. Pure."""

import re
import string
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from broadcastd.model import Request

PLACEHOLDERS = ("content", "phone", "now", "ref", "key")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def check_text(text: str) -> str:
    """Return `text`. Raises ValueError when it has a placeholder that no frame can fill."""
    try:
        found = [one for one in string.Formatter().parse(text) if one[1] is not None]
    except ValueError as error:
        raise ValueError(f"not a valid text: {error} (write a brace as {{{{ or }}}})") from error
    for _, name, width, conversion in found:
        if name not in PLACEHOLDERS:
            accepted = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            raise ValueError(f"unknown placeholder {{{name}}}; accepted: {accepted}")
        if width or conversion:
            raise ValueError(f"placeholder {{{name}}} takes no format after : or !")
    return text


def placeholder_values(request: Request, now: datetime, timezone: ZoneInfo) -> Mapping[str, str]:
    """What the placeholders of a job stand for. `now` is shown in the account's timezone."""
    return {
        "content": request.content,
        "phone": request.phone,
        "now": now.astimezone(timezone).strftime("%Y-%m-%d %H:%M:%S"),
        "ref": request.ref or "",
        "key": request.key or "",
    }


def without_controls(text: str) -> str:
    """The text without control characters, line breaks and tabs excepted.

    JSON can only hold them as \\u escapes, which WeChat refuses (47002) or shows to the reader as they are.
    """
    return _CONTROLS.sub("", text)


def has_placeholder(text: str) -> bool:
    """Whether a frame fills something in."""
    return any(name is not None for _, name, _, _ in string.Formatter().parse(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill the placeholders. Braces inside the values stay as they are."""
    return text.format_map(values)
