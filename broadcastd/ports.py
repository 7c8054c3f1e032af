"""The seams. Each port is a Protocol with its contract; `tests/contract` runs one suite over all
implementations. Implementations live in the plural folders: `ledgers/`, `audiences/`, `channels/`.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from broadcastd.model import Batch, Job, Lease, NewJob, Request, Settled, Split
from broadcastd.outcomes import Answer


@dataclass(frozen=True, slots=True)
class Opening:
    """What a ledger found when it was opened."""

    owner: str
    """This node and its start: who its leases belong to."""
    reopened: int
    """Slices that the former start had leased, taken back."""
    in_doubt: int
    """Recipients found in doubt, counted in their jobs' books already."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job is on disk."""

    job: Job
    repeat: bool
    """Whether it stood there already, under the same key."""


class Ledger(Protocol):
    """The durable record of jobs, slices, marks, deferrals and outcomes.

    Each method that writes returns only once its change is on disk (fsync), and raises
    LedgerUnavailableError when it is not: then nothing of the change is to be relied on. `now` is aware UTC.
    """

    async def accept(self, job: NewJob, dedupe_window: timedelta) -> Accepted:
        """Put a job on disk, or find the one that its key (or, without one, its content) names already.

        Keys are kept for a year; content for `dedupe_window` (zero: not at all). Raises KeyConflictError.
        """
        ...

    async def add_slices(
        self, job_no: int, slices: Sequence[Sequence[int]], *, planned: bool, may_be_empty: bool = False
    ) -> None:
        """Freeze ascending ids, all above those frozen before, as open slices; `planned`: the last call.

        A job that is planned and froze nobody is held; with `may_be_empty`, done. Raises AlreadyFrozenError.
        """
        ...

    async def hold(self, job_no: int, reason: str) -> bool:
        """Hold a job. False when it has ended or is held already."""
        ...

    async def resume(self, job_no: int) -> bool:
        """Let a held job go on. False when it is not held."""
        ...

    async def finish(self, job_no: int, now: datetime) -> Job | None:
        """Write `done` if the job is running and its books balance; the job then, else None."""
        ...

    async def open_slices(self, now: datetime) -> Mapping[int, int]:
        """Job number to how many of its slices are open and due."""
        ...

    async def next_due_at(self) -> datetime | None:
        """When the earliest open slice of all is due."""
        ...

    async def lease(self, shares: Mapping[int, int], now: datetime, until: datetime) -> Sequence[Lease]:
        """Lease up to so many open, due slices of each job, lowest first."""
        ...

    async def renew(self, now: datetime, until: datetime) -> None:
        """Extend this owner's leases that have not run out."""
        ...

    async def record(self, batch: Batch, now: datetime) -> frozenset[int]:
        """Write a batch in one commit; the tokens of the leases that are no longer valid.

        The mark of such a lease, and what it armed, is not written: nobody of it may be asked. Outcomes are
        facts and always written; a recipient's first one stays.
        """
        ...

    async def split(self, splits: Sequence[Split], now: datetime, until: datetime) -> Sequence[Lease | None]:
        """Make the `give` of each split a slice of its own, leased by this owner.

        `give` is the tail of the slice, all above its mark. None where the lease is gone.
        """
        ...

    async def settle(self, lease: Lease, now: datetime) -> Settled:
        """End a lease: the slice is done when each of its ids has an outcome, else open again.

        Who was let through by its marks, has no outcome and was not put off is in doubt: counted so here.
        """
        ...

    async def recover(self, working: Collection[int], now: datetime) -> int:
        """Take back slices whose lease has run out; how many. `working`: tokens that are still worked on."""
        ...

    async def job(self, job_id: str) -> Job | None:
        """A job with its books."""
        ...

    async def jobs(self, limit: int, *, only_open: bool = False) -> Sequence[Job]:
        """The newest jobs first (with `only_open`: those that have not ended, oldest first)."""
        ...


IdBlocks = AbstractAsyncContextManager[AsyncIterator[Sequence[int]]]


class Audience(Protocol):
    """The rows of one account's database that are eligible, as its query yields them.

    Every method raises AudienceUnavailableError when the database cannot be read; what was yielded before
    stands. `now` is the job's time.
    """

    def ids(
        self, now: datetime, after: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[int]]]:
        """All eligible ids above `after`, ascending, in blocks, from one unbuffered read."""
        ...

    async def page(self, now: datetime, page_no: int, page_size: int) -> Sequence[int]:
        """The ids of the `page_no`-th page (from 0) of `page_size` eligible rows."""
        ...

    async def pull(self, now: datetime, first: int, last: int) -> Sequence[tuple[int, str]]:
        """(id, openid) of who is eligible now, from `first` to `last` inclusive, ascending."""
        ...

    async def count(self, now: datetime) -> int:
        """How many are eligible."""
        ...


class TokenSource(Protocol):
    """The account's access token."""

    async def token(self) -> str:
        """The present token, cached. Raises TokenUnavailableError."""
        ...

    def discard(self, token: str) -> None:
        """WeChat says that `token` is stale: the next call reads it again, if it is still the cached one."""
        ...


class Message(Protocol):
    """One job's message on one channel, rendered once: what is left is the recipient."""

    def body(self, openid: str, message_id: str) -> bytes:
        """The request's body for one recipient. `message_id`: stable, 32 ASCII characters or fewer."""
        ...


class Channel(Protocol):
    """A way to reach a recipient."""

    name: str
    takes_data: bool
    """Whether a frame's `template` and `data` mean anything to it."""

    def render(self, request: Request, now: datetime) -> str:
        """The message as the ledger keeps it.

        Raises ValueError, in plain words, when it can never be sent (empty, too long).
        """
        ...

    def message(self, rendered: str) -> Message:
        """What `render` made, ready to send."""
        ...

    async def attempt(self, body: bytes, token: str) -> Answer:
        """One call. Never raises for what the network or WeChat does."""
        ...
