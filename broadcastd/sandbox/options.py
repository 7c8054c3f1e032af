"""What a sandbox is started with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# New rule of 2023: 5 messages within 48 h of a user's message (reference, section 1).
ALLOWANCE = 5
WINDOW_S = 48 * 3600.0
# Reference, section 5.
TOKEN_EXPIRES_IN_S = 7200
# Measured, not documented (reference, section 1).
MAX_TEXT_BYTES = 2048
# What custom/send says of someone who left is not known: any of these (reference, section 11).
UNFOLLOWED_ERRCODES = (43004, 40003, 45015)
# Documented are 64 bytes, yet 34 were refused (reference, section 4).
MAX_CLIENTMSGID = 32

USER_NAME = "gh_5a4db0c50001"
APP_ID = "wx5a4db0c500000001"
APP_SECRET = "5a4db0c55a4db0c55a4db0c55a4db0c5"  # noqa: S105  # public


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of one sandbox, checked when made (`ValueError` names the setting).

    Followers are numbered: `openid(0)` … inside the window first, then those outside it, then those who
    unfollowed. `open` lets any other openid count as a follower inside the window; it is the default when no
    number is given. Port 0 is a free port. `errors` and `outages` are as in `behaviour.Change`, `quotas`
    as in `Quotas.change`, `results` as in `results.ResultsChange`, `callback` as in `callback.CallbackSpec`.
    `constants` are the approved values of `const` keywords, `consents` how many each follower has given for
    each template, `last_next_openid` whether the last page of user/get names one more.
    """

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int = 0
    inside: int = 0
    outside: int = 0
    unfollowed: int = 0
    open: bool | None = None
    allowance: int = ALLOWANCE
    window_s: float = WINDOW_S
    unfollowed_errcode: int = UNFOLLOWED_ERRCODES[0]
    app_id: str = APP_ID
    app_secret: str = APP_SECRET
    token: str = ""
    expires_in_s: int = TOKEN_EXPIRES_IN_S
    max_text_bytes: int = MAX_TEXT_BYTES
    templates: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    consents: int = 0
    max_clientmsgid: int = MAX_CLIENTMSGID
    last_next_openid: bool = True
    quotas: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    callback: Mapping[str, Any] = field(default_factory=dict)
    user_name: str = USER_NAME
    latency_ms: float | tuple[float, float] = 0
    errors: Mapping[str, Any] = field(default_factory=dict)
    outages: Sequence[Any] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("inside", "outside", "unfollowed", "allowance", "window_s", "consents"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("expires_in_s", "max_text_bytes", "max_clientmsgid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("port", "control_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name} must be a port (0 to 65535), not {getattr(self, name)}")
        if self.unfollowed_errcode not in UNFOLLOWED_ERRCODES:
            raise ValueError(f"unfollowed_errcode must be one of {UNFOLLOWED_ERRCODES}")

    @property
    def numbered(self) -> int:
        """How many numbered followers there are, those who left included."""
        return self.inside + self.outside + self.unfollowed

    @property
    def takes_anyone(self) -> bool:
        """Whether an openid without a number is a follower inside the window."""
        return self.numbered == 0 if self.open is None else self.open
