"""The seams of telling a site that its jobs have ended, beside those in `ports`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from broadcastd.model import Job


class TellingLedger(Protocol):
    """What the ledger knows of who has been told. As for `Ledger`: on disk when a method returns."""

    async def begin_telling(self, accounts: Collection[str], now: datetime) -> None:
        """At a start: the sites of these accounts are to be told from now on.

        What has ended counts as told, but for accounts that were among them at the former start, too.
        """
        ...

    async def untold(self, account: str, after: int, limit: int) -> Sequence[Job]:
        """The account's jobs that have ended and are not told, in order, those above number `after`."""
        ...

    async def note_told(self, job_no: int, round_no: int, now: datetime) -> None:
        """The site knows how a job ended in its round (or is not told any more); nothing, when it goes on
        in another round meanwhile."""
        ...


class FinishHook(Protocol):
    """One way to tell an account's site."""

    name: str
    """For the log: `url`, `sql`."""

    async def tell(self, job: Job, now: datetime) -> str:
        """Tell of one job that has ended. Why it could not be done, in plain words without secrets; empty:
        the site knows. Never raises for what the site or the network does; ends within a bounded time.

        The same job may be told several times.
        """
        ...
