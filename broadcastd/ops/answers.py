"""What this port answers with: a status, JSON or text, and headers that keep browsers away from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.json_line import json_line
from broadcastd.wire.views import refusal_view

JSON = "application/json; charset=utf-8"
RETRY_AFTER_S = 5

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "-",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer. None of CORS: no page of another origin may read anything here."""

STATUSES: Mapping[ErrorCode, int] = {
    ErrorCode.BAD_JSON: 400,
    ErrorCode.BAD_FRAME: 400,
    ErrorCode.FRAME_TOO_LARGE: 413,
    ErrorCode.TOO_SLOW: 408,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.UNKNOWN_OP: 400,
    ErrorCode.UNKNOWN_ACCOUNT: 400,
    ErrorCode.UNKNOWN_JOB: 404,
    ErrorCode.BAD_CONTENT: 400,
    ErrorCode.CONFLICT: 409,
    ErrorCode.WRONG_STATE: 409,
    ErrorCode.NOT_DURABLE: 503,
    ErrorCode.BUSY: 429,
    ErrorCode.DRAINING: 503,
    ErrorCode.AUDIENCE_UNAVAILABLE: 503,
    ErrorCode.WECHAT_REFUSED: 502,
    ErrorCode.INTERNAL: 500,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside `HEADERS`."""
    guessed: bool = False
    """A token was missing or wrong: who asked is kept waiting for this."""


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """A value as JSON, on a line."""
    return Answer(status, json_line(value), headers=headers or {})


def refused(refusal: Refusal, status: int | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """As the frames' port says it, with a status."""
    code = refusal.code
    more = dict(headers or {})
    if code.retry:
        more["Retry-After"] = str(RETRY_AFTER_S)
    if code is ErrorCode.UNAUTHORIZED:
        more["WWW-Authenticate"] = "Bearer"
    answer = json_answer(status or STATUSES[code], refusal_view(refusal), more)
    return replace(answer, guessed=code is ErrorCode.UNAUTHORIZED)


def bad(status: int, words: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The request itself is wrong."""
    return refused(Refusal(ErrorCode.BAD_FRAME, words), status, headers)
