"""The account's texts: `{content}`, `{phone}`, `{now}`, `{ref}` and `{key}` filled in. Pure."""

import string
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from broadcastd.model import Request

PLACEHOLDERS = ("content", "phone", "now", "ref", "key")


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


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill the placeholders. Braces inside the values stay as they are."""
    return text.format_map(values)
