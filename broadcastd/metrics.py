"""What is counted while the daemon works, as cheaply as can be: dicts and lists, no locks, no label objects.

What can be looked up when somebody asks (states, queues, holds) is not counted. Every key comes from a closed
list (the settings' accounts and channels, the table of errcodes, the ops): strangers cannot add any. Who
makes figures for Prometheus of it is `ops/collector.py`.
"""

from bisect import bisect_left
from collections.abc import Sequence

from broadcastd.errcodes import MEANINGS
from broadcastd.outcomes import Answer, Outcome

CALL_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""WeChat answers in 20 to 200 ms; the time limit is 30 s by default."""
COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROW_BOUNDS = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)

OTHER = "other"
"""An errcode that the table does not know: any number may come."""
_TROUBLES = (
    ("no answer in time", "timeout"),
    ("no connection in time", "connect_timeout"),
    ("no connection", "no_connection"),
    ("the server's certificate", "certificate"),
    ("the connection broke", "connection_broke"),
    ("HTTP 4", "http_4xx"),
    ("HTTP 5", "http_5xx"),
    ("HTTP ", "http_other"),
)
UNREADABLE = "unreadable"
"""An answer that is none of WeChat's."""


class Histogram:
    """How many values lie at or below each bound. One thread may observe."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """Of all values."""

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(bound, how many are at or below it), the last one `+Inf`: as Prometheus wants it."""
        found, sum_ = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], list(self._counts), strict=True):
            sum_ += count
            found.append((bound, float(sum_)))
        return found


class Calls:
    """Of one account's channel: what came back of its calls, and after how long."""

    __slots__ = ("answers", "latency_s")

    def __init__(self) -> None:
        self.answers: dict[int | str, int] = {}
        """By errcode; by kind of trouble where WeChat did not answer."""
        self.latency_s = Histogram(CALL_BOUNDS_S)

    def accepted(self, latencies_s: Sequence[float]) -> None:
        """Calls came back with errcode 0."""
        for one in latencies_s:
            self.latency_s.observe(one)
        self.answers[0] = self.answers.get(0, 0) + len(latencies_s)

    def ended(self, answer: Answer, latency_s: float) -> None:
        """One call came back."""
        self.latency_s.observe(latency_s)
        kind: int | str = answer.errcode
        if not answer.answered:
            kind = trouble_kind(answer)
        elif kind not in MEANINGS:
            kind = OTHER
        self.answers[kind] = self.answers.get(kind, 0) + 1


class Tally:
    """Of one account: outcomes since the start, by channel, and when the last one came."""

    __slots__ = ("last_at_s", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, Outcome], int] = {}
        """By channel (empty: by none) and outcome."""
        self.last_at_s: float | None = None
        """Monotonic; None: none yet."""

    def ended(self, channel: str, outcome: Outcome, at_s: float, many: int = 1) -> None:
        """So many recipients have an outcome."""
        key = channel, outcome
        self.outcomes[key] = self.outcomes.get(key, 0) + many
        self.last_at_s = at_s


class Commits:
    """Of the ledger. Observed in the thread that commits."""

    __slots__ = ("failed", "rows", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram(COMMIT_BOUNDS_S)
        self.rows = Histogram(ROW_BOUNDS)
        """Marks, outcomes and deferrals of one batch of the recorder."""
        self.failed = 0


class JobCounts:
    """Of all accounts, since the start."""

    __slots__ = ("accepted", "finished", "repeated")

    def __init__(self) -> None:
        self.accepted: dict[str, int] = {}
        self.repeated: dict[str, int] = {}
        """Frames whose job stood there already."""
        self.finished: dict[tuple[str, str], int] = {}
        """By account and last state."""

    def take(self, account: str, *, repeat: bool) -> None:
        """A job is on disk."""
        counts = self.repeated if repeat else self.accepted
        counts[account] = counts.get(account, 0) + 1

    def end(self, account: str, state: str) -> None:
        """A job, or its retry, has ended."""
        key = account, state
        self.finished[key] = self.finished.get(key, 0) + 1


class FrameCounts:
    """What became of frames, on whatever way they came."""

    __slots__ = ("results",)

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], int] = {}
        """By op and `ok` or error code."""

    def answered(self, op: str, result: str) -> None:
        """One frame. Both words are from closed lists."""
        key = op, result
        self.results[key] = self.results.get(key, 0) + 1


def trouble_kind(answer: Answer) -> str:
    """A word for why a call was not answered, from a closed list: what is said in full goes to the log."""
    said = answer.refused or answer.unanswered or ""
    return next((kind for begin, kind in _TROUBLES if said.startswith(begin)), UNREADABLE)
