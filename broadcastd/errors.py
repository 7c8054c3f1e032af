"""The daemon's exceptions. The docstring of each is its default text; fields carry the facts."""

from datetime import datetime
from pathlib import Path


class BroadcastdError(Exception):
    """Something went wrong in broadcastd."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class SettingsError(BroadcastdError):
    """The settings cannot be used."""


class LedgerUnavailableError(BroadcastdError):
    """The ledger cannot be written now."""


class LedgerSilentError(LedgerUnavailableError):
    """The ledger does not answer, and nothing is known to be wrong with it."""


class LedgerInUseError(BroadcastdError):
    """Another broadcastd works on this ledger."""


class LedgerVersionError(BroadcastdError):
    """The ledger was made by another version of broadcastd."""


class KeyConflictError(BroadcastdError):
    """This key was used before, with other content."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(f"key {key!r} belongs to job {job_id}, which has other content")
        self.key = key
        self.job_id = job_id


class AlreadyFrozenError(BroadcastdError):
    """These recipients are frozen already."""


class JobEndedError(BroadcastdError):
    """The job has been cancelled, is past its deadline, or has ended."""


class DeadlinePassedError(BroadcastdError):
    """The job's deadline has passed."""

    def __init__(self, deadline: datetime) -> None:
        super().__init__(f"not_after: {deadline.isoformat()} has passed")


class AudienceUnavailableError(BroadcastdError):
    """The account's database cannot be read now."""


class TokenUnavailableError(BroadcastdError):
    """No access token can be had now."""

    def __init__(self, message: str, retry_in_s: float, *, needs_operator: bool = False) -> None:
        super().__init__(message)
        self.retry_in_s = retry_in_s
        self.needs_operator = needs_operator


class CannotListenError(BroadcastdError):
    """The port cannot be opened."""


class AlreadyRunningError(BroadcastdError):
    """Another broadcastd has this pid file."""

    def __init__(self, pid: int | None, pid_file: Path) -> None:
        who = "broadcastd" if pid is None else f"broadcastd, pid {pid},"
        super().__init__(f"{who} runs already ({pid_file})")
        self.pid = pid


class CannotStartError(BroadcastdError):
    """The daemon cannot be put into the background."""


class NoDaemonError(BroadcastdError):
    """No daemon answers."""


class TableUnfitError(BroadcastdError):
    """The audience table cannot be synchronised as it is."""


class SyncLostError(BroadcastdError):
    """Another audience sync has taken over the table."""
