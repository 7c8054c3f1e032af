"""The seams. Each port is a Protocol with its contract; `tests/contract` runs one suite over all
implementations. Implementations live in the plural folders: `ledgers/`, `audiences/`, `channels/`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from broadcastd.batch import Batch
from broadcastd.chunks import Chunk
from broadcastd.model import NO_HOLD, Hold, Job, Known, Lease, Listed, NewJob, Request, Round, Settled, Split
from broadcastd.outcomes import Answer, Outcome
from broadcastd.pushes import NewPush, PushKind, WaitingPush
from broadcastd.states import JobState
from broadcastd.transport_ports import CallSource, Raw


@dataclass(frozen=True, slots=True)
class Opening:
    """What a ledger found when it was opened."""

    owner: str
    """This node and its start: who its leases belong to."""
    reopened: int
    """Slices that the former start had leased, taken back."""
    in_doubt: int
    """Recipients found in doubt, counted in their jobs' books already."""
    copied: str = ""
    """Why this is not the ledger that it was, in words: a copy, or restored from one. Open jobs are held."""
    away: timedelta | None = None
    """How long no daemon had worked on it; None for a new one."""


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
        self,
        job_no: int,
        slices: Sequence[Sequence[int]],
        *,
        planned: bool,
        may_be_empty: bool = False,
    ) -> None:
        """Freeze ascending ids, all above those frozen before, as open slices; `planned`: the last call.

        Each slice has one id at the least; whoever has many packs them beforehand (`frozen.Ids`).

        A job that is planned and froze nobody is held; with `may_be_empty`, done. In a retry, who may have
        got the message already is counted in doubt. Raises AlreadyFrozenError, and JobEndedError when it was
        cancelled meanwhile.
        """
        ...

    async def move(self, job_no: int, target: JobState, reason: str = "", hold: Hold = NO_HOLD) -> bool:
        """Move a job to held, paused, cancelling or expiring if an arrow leads there; whether it did."""
        ...

    async def resume(self, job_no: int) -> bool:
        """Let a held or paused job go on; False when it is neither. One that froze nobody is planned anew."""
        ...

    async def warn(self, job_no: int, warnings: Sequence[str]) -> None:
        """What an operator should know of a job, instead of what was said before."""
        ...

    async def hasten(self, job_no: int, channel_no: int, now: datetime, after: int = 0) -> int | None:
        """Make who is put off for the job's `channel_no`-th channel due now, in the next slices above
        number `after`; the last one's number, to go on after it, or None when there is no more."""
        ...

    async def retry(
        self,
        job_no: int,
        round_no: int,
        only: Collection[Outcome],
        now: datetime,
        not_after: datetime | None,
    ) -> bool:
        """Begin round `round_no` of a job that has ended, for those with one of the outcomes `only`.

        It runs then and is to be planned, from `retried_ids`; `not_after` is its deadline from now on. False
        when it has not ended, that is not its next round, nobody has such an outcome, or it is purged.
        """
        ...

    async def retried_ids(self, job_no: int, after: int | None, limit: int) -> Sequence[int]:
        """Whom the present round is to freeze: ascending ids above `after`. The same however often asked."""
        ...

    async def close_slices(self, job_no: int, limit: int, now: datetime) -> int:
        """End up to `limit` open slices of a cancelling or expiring job; how many are not done yet.

        Who may have been reached is `unknown` (counted in doubt, once), the others `skipped`; in a retry they
        keep the former outcome.
        """
        ...

    async def finish(self, job_no: int, now: datetime) -> Job | None:
        """Write the last state if the books balance and no slice is left: `done` of a running job,
        `cancelled` or `expired` of a closing one. The job then, else None."""
        ...

    async def open_slices(self, now: datetime) -> Mapping[int, int]:
        """Job number to how many of its slices are open and due."""
        ...

    async def next_due_at(self, job_no: int | None = None) -> datetime | None:
        """When the earliest open slice of all, or of this job, is due."""
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

    async def jobs(self, limit: int, *, only_open: bool = False, account: str | None = None) -> Sequence[Job]:
        """The newest jobs first (with `only_open`: those that have not ended, oldest first).

        With `account`: only its.
        """
        ...

    async def rounds(self, job_no: int) -> Sequence[Round]:
        """All rounds of a job, the first one first."""
        ...

    async def listed(self, job_no: int, after: int | None) -> tuple[Sequence[Listed], int | None]:
        """Recipients of the next slices above id `after` (None: of the first ones), and the last id of them.

        None for it: there is none, and so nobody more. Nobody is listed twice, though slices are split.
        """
        ...

    async def take_pushes(self, some: Sequence[NewPush], now: datetime) -> Sequence[bool]:
        """Put pushes on disk, with what they say of followers and deliveries; which of them are new.

        Of those with one account and dedupe key the first counts, and the others change nothing. Nothing
        that somebody wrote is kept.
        """
        ...

    async def waiting_pushes(self, account: str, after: int, limit: int) -> Sequence[WaitingPush]:
        """Pushes whose statement (`NewPush.waits`) has not been run, in order, those above number `after`."""
        ...

    async def note_applied(self, numbers: Collection[int], now: datetime) -> None:
        """The statements of these pushes have been run."""
        ...

    async def opted_out(self, account: str) -> Collection[str]:
        """Who has opted out by a push, and not in again since."""
        ...

    async def known(self, account: str, openids: Sequence[str]) -> Mapping[str, Known]:
        """What is known of these followers (some hundreds); of whom nothing is, is left out."""
        ...

    async def forget_followers(
        self, now: datetime, keep: timedelta, after: tuple[str, str] | None, limit: int
    ) -> tuple[int, tuple[str, str] | None]:
        """Forget those of the next `limit` followers of whom nothing was heard for `keep`: how many, and the
        last one that was looked at (account, openid); None: there are no more. Who opted out stays.
        """
        ...

    async def mass_chunks(self, job_no: int) -> Sequence[Chunk]:
        """A job's mass messages, the first one first."""
        ...

    async def purge(self, now: datetime, keep: timedelta, limit: int) -> int:
        """Forget some `limit` rows of jobs that ended over `keep` ago (keys and totals: a year); how many.

        0 when there is nothing more to forget.
        """
        ...

    async def report_key(self) -> str:
        """The secret of the reports' HMAC, the same for the ledger's whole life."""
        ...

    async def alive(self, now: datetime) -> None:
        """Note that a daemon works on this ledger: by this, later starts tell a downtime, and a copy."""
        ...

    async def adopt(self) -> int:
        """Make a copied ledger one of its own, and let the jobs go on that were held for it; how many."""
        ...

    @property
    def trouble(self) -> str:
        """Why the last commit failed, in plain words; empty when all is well."""
        ...

    @property
    def copied(self) -> str:
        """As `Opening.copied`, until it is adopted."""
        ...

    def free_bytes(self) -> int | None:
        """How much room the ledger's disk has; None where that cannot be told."""
        ...


IdBlocks = AbstractAsyncContextManager[AsyncIterator[Sequence[int]]]


class Audience(Protocol):
    """The rows of one account's database that are eligible, as its query yields them.

    Every method raises AudienceUnavailableError when the database cannot be read; what was yielded before
    stands. `now` is the job's time.
    """

    def ids(self, now: datetime, after: int | None) -> IdBlocks:
        """All eligible ids above `after`, ascending, in blocks, from one unbuffered read."""
        ...

    async def page(self, now: datetime, page_no: int, page_size: int) -> Sequence[int]:
        """The ids of the `page_no`-th page (from 0) of `page_size` eligible rows."""
        ...

    async def pull(self, now: datetime, first: int, last: int) -> Sequence[tuple[int, str]]:
        """(id, openid) of who is eligible now, from `first` to `last` inclusive, ascending."""
        ...

    async def count(self, now: datetime, through: int | None = None) -> int:
        """How many are eligible, of all or of the ids up to `through`."""
        ...


class Registry(Protocol):
    """Where the site itself keeps who is to be sent to."""

    @property
    def kinds(self) -> Collection[PushKind]:
        """The pushes that it is to be told of."""
        ...

    async def note(self, kind: PushKind, openid: str) -> None:
        """Have it know what a follower did; the same twice does no harm. Raises AudienceUnavailableError."""
        ...


class TokenSource(Protocol):
    """The account's access token."""

    @property
    def trouble(self) -> str:
        """Why none can be had, from the first failure until one is there; else empty."""
        ...

    @property
    def present(self) -> str | None:
        """The cached token; None: the next `token` fetches one, or says why there is none."""
        ...

    async def token(self) -> str:
        """The present token, cached. Raises TokenUnavailableError, with a pause that grows.

        One fetch at a time, however many ask; until the pause is over, its failure is the answer for all.
        60 s or more: an operator must mend it.
        """
        ...

    async def look(self) -> str:
        """Have a token at hand, and say why it will hardly do; empty when nothing speaks against it.

        No call more than `token` makes, and it raises as that does.
        """
        ...

    def discard(self, token: str) -> None:
        """WeChat calls `token` stale: if it is still the cached one, the next call fetches it again."""
        ...

    def ask_again(self) -> None:
        """An operator says that its trouble is mended: do not wait for the end of the pause."""
        ...

    async def keep(self) -> None:
        """Fetch each token ahead of the former's end, for ever, and never raise; or return at once, when
        somebody else keeps it fresh."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """A job's message on one channel."""

    text: str
    """As the ledger keeps it."""
    warnings: tuple[str, ...] = ()
    """What was changed, or is not shown, in plain words; without the values."""


class Message(Protocol):
    """One job's message on one channel, rendered once: what is left is the recipient."""

    names_itself: bool
    """Whether the message id is in its body; where it is not, any will do."""

    def body(self, openid: str, message_id: str) -> bytes:
        """The request's body for one recipient. `message_id`: stable, 32 ASCII characters or fewer."""
        ...


class Channel(Protocol):
    """A way to reach a recipient."""

    name: str
    path: str
    """What WeChat counts its calls by."""
    templates: Collection[str]
    """What a frame's `template` may name here; empty: this channel takes neither `template` nor `data`."""

    def render(self, request: Request, now: datetime) -> Rendered:
        """The message as the ledger keeps it.

        A `template` that is not one of `templates` is another channel's, and so is the `data` with it: then
        the default one is rendered. Raises ValueError, in plain words, when the message can never be sent
        (empty, too long).
        """
        ...

    def message(self, rendered: str) -> Message:
        """The text that `render` made, ready to send."""
        ...

    async def attempt(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        """One call. Never raises for what the network or WeChat does. None: `may_ask` said no.

        It is asked when a connection is there, right before the request is written: that may take seconds.
        """
        ...

    def make_calls(self, source: CallSource, token: str) -> Coroutine[Any, Any, None]:
        """As `attempt`, one call after the other, until `source` gives none. See `Transport.make_calls`."""
        ...

    def read(self, raw: Raw) -> Answer:
        """What `source` was told of a call."""
        ...
