"""Why a frame is refused: the closed list of error codes, and whether the same frame may succeed later."""

from dataclasses import dataclass
from enum import Enum


class ErrorCode(Enum):
    """Name on the wire, and `retry`."""

    BAD_JSON = "bad_json", False
    BAD_FRAME = "bad_frame", False
    FRAME_TOO_LARGE = "frame_too_large", False
    TOO_SLOW = "too_slow", True
    UNAUTHORIZED = "unauthorized", False
    FORBIDDEN = "forbidden", False
    UNKNOWN_OP = "unknown_op", False
    UNKNOWN_ACCOUNT = "unknown_account", False
    UNKNOWN_JOB = "unknown_job", False
    BAD_CONTENT = "bad_content", False
    CONFLICT = "conflict", False
    WRONG_STATE = "wrong_state", False
    NOT_DURABLE = "not_durable", True
    BUSY = "busy", True
    DRAINING = "draining", True
    AUDIENCE_UNAVAILABLE = "audience_unavailable", True
    BAD_SETTINGS = "bad_settings", False
    WECHAT_REFUSED = "wechat_refused", False
    INTERNAL = "internal", True

    @property
    def word(self) -> str:
        """How the wire spells it."""
        return self.value[0]

    @property
    def retry(self) -> bool:
        """Whether the caller should send the same frame again later."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that is not carried out, and why, in plain words."""

    code: ErrorCode
    message: str
    job_id: str | None = None
    """With CONFLICT: the job that has the key. With WRONG_STATE: the job."""
    state: str | None = None
    """With WRONG_STATE: the state it is in."""
