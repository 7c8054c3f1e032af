"""The settings of what watches: when a job is stuck, and what `broadcastd monitor` does."""

import os
from pathlib import Path

from pydantic import Field, field_validator

from broadcastd.section import Section

MOST_SECOND_LOOK_S = 40.0
"""A whole run ends within a minute: the next one is due then."""


class MonitorSettings(Section):
    """`[monitor]`."""

    stuck_after_s: float = Field(600, ge=1)
    waiting_after_s: float = Field(3600, ge=1)
    restart: tuple[str, ...] = ("systemctl", "restart", "broadcastd")
    restart_when_stopped: bool = False
    second_look_s: float = Field(30, ge=0, le=MOST_SECOND_LOOK_S)
    timeout_s: float = Field(10, gt=0, le=15)
    min_free_mb: int = Field(256, ge=0)
    expires_days: float = Field(14, ge=0)
    state_dir: str = ""

    @field_validator("restart", mode="before")
    @classmethod
    def _words(cls, given: object) -> object:
        """A text is split at its blanks; the empty one turns restarts off."""
        return tuple(given.split()) if isinstance(given, str) else given


def state_dir(settings: MonitorSettings) -> Path:
    """Where the monitor keeps what it knows between two runs. systemd's `$STATE_DIRECTORY` wins."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or settings.state_dir
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/broadcastd-monitor")
    return Path.home() / ".local/state/broadcastd-monitor"
