"""When a daemon may be restarted again. Pure: time is handed in."""

from dataclasses import dataclass
from datetime import datetime, timedelta

GAPS = (timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))
"""From one restart to the next: what the first did not mend, the tenth hardly will."""
CALM = timedelta(hours=1)
"""After so long without trouble the gaps begin anew."""


@dataclass(slots=True)
class Restarts:
    """What is remembered of them. Moments are seconds since 1970."""

    last_s: float | None = None
    step: int = 0
    trouble_s: float | None = None

    def next_at(self, now: datetime) -> datetime | None:
        """Before when none may be tried; None: it may be now."""
        if self.last_s is None or self.last_s > now.timestamp():  # the clock was set back
            return None
        due_s = self.last_s + GAPS[min(self.step, len(GAPS)) - 1].total_seconds()
        return datetime.fromtimestamp(due_s, now.tzinfo) if due_s > now.timestamp() else None

    def done(self, now: datetime) -> None:
        """One was tried."""
        self.last_s = self.trouble_s = now.timestamp()
        self.step += 1

    def saw(self, now: datetime, *, trouble: bool) -> None:
        """A look was taken."""
        if trouble:
            self.trouble_s = now.timestamp()
        elif self.trouble_s is not None and now.timestamp() - self.trouble_s >= CALM.total_seconds():
            self.trouble_s, self.last_s, self.step = None, None, 0
