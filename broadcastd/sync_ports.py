"""The seams of the audience sync: WeChat's list of followers, and the table that it is brought into."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from broadcastd.outcomes import Answer

OWN_TABLE = "broadcastd_followers"
"""What is filled when no table is named."""

QUOTA_DAY = ZoneInfo("Asia/Shanghai")
"""WeChat's days begin at midnight there, as far as is known (docs/wechat-api.md, section 11)."""


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of WeChat's list. The list ends with a page without openids, or without `next_openid`."""

    openids: Sequence[str]
    next_openid: str
    """Where the next page begins; empty at the end of the list, though not always."""
    total: int
    """How many followers the account has, as WeChat says."""


class UserList(Protocol):
    """WeChat's list of an account's followers."""

    async def page(self, after: str, token: str) -> UserPage | Answer:
        """The page after `next_openid` of the one before ("": the first), or why there is none.

        Never raises for what the network or WeChat does.
        """
        ...


class Stage(StrEnum):
    """How far a pass has come."""

    LISTING = "listing"  # pages are being read
    LISTED = "listed"  # the list is read whole; who was not on it is still to be marked as gone
    COMPLETE = "complete"  # that is done, too


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading of the whole list. It is on disk, in the same commit as the rows that it tells of."""

    no: int
    stage: Stage
    begun_at: datetime
    touched_at: datetime
    """When its last page was written."""
    next_openid: str = ""
    pages: int = 0
    seen: int = 0
    """Followers on the pages so far, each once."""
    inserted: int = 0
    returned: int = 0
    """Of those seen: how many were marked as gone before."""
    left_out: int = 0
    """On the pages, but empty or too long for the table."""
    total: int = 0
    """What WeChat said last."""
    known: int = 0
    """How many rows were not marked as gone when it began."""
    top_id: int = 0
    """The highest id when it began. Rows above may be of followers who came too late to be on a page."""
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is there, looked at without changing anything."""

    last: Pass | None
    """The last pass, whatever its stage; None: there was none."""
    calls_today: int
    missing: Sequence[str] = ()
    """Tables that are not there and that `make` would make."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who works on a table, until when, as the table's own row says it."""

    holder: str
    """Names a process, so that its end can be told."""
    until: datetime


class FollowersTable(Protocol):
    """The audience table, and beside it the row that tells of its passes.

    Every method raises AudienceUnavailableError when the database cannot be read or written; what it was to
    write may be there all the same. Those that write do so only for the holder of a valid claim, and raise
    SyncLostError for another. The column receive_status is never written: an opt-out survives.
    """

    async def standing(self, now: datetime) -> Standing:
        """What is there. Raises TableUnfitError when the table lacks what a sync needs."""
        ...

    async def make(self) -> None:
        """Make the tables that are missing."""
        ...

    async def claim(self, claim: Claim, now: datetime, has_ended: Callable[[str], bool]) -> Claim | None:
        """Take the table, or say who has it. Taken from who `has_ended`, and from whose claim has run out.

        Raises TableUnfitError when it holds the followers of another account.
        """
        ...

    async def release(self) -> None:
        """Give the claim back."""
        ...

    async def begin(self, now: datetime) -> Pass:
        """A new pass, after whatever the last one came to."""
        ...

    async def count_call(self, now: datetime, until: datetime) -> int:
        """Note that WeChat is about to be called, and extend the claim; the calls of this day with this one.

        A day is one of QUOTA_DAY. The account's calls for other tables count as well.
        """
        ...

    async def add(self, before: Pass, page: UserPage, now: datetime, *, is_last: bool) -> Pass:
        """Insert who is new, mark who is known as seen, and move the pass on; one commit.

        `before`: the pass as it was when the page was asked for. When it is not that any more (a commit whose
        answer was lost), nothing is written; the pass as it is.
        """
        ...

    async def unseen(self, seen: Pass) -> int:
        """How many would be marked as gone."""
        ...

    async def mark_gone(self, seen: Pass, now: datetime) -> Pass:
        """Mark the rows that `seen` has not seen as gone, and complete it. May be broken off and repeated."""
        ...
