"""The seams of mass messages, beside those in `ports`: lists instead of single recipients."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeGuard

from broadcastd.chunks import Chunk, MassStand
from broadcastd.outcomes import Outcome
from broadcastd.ports import Message

Member = tuple[int, str]
"""id and openid."""


class ListMessage(Message, Protocol):
    """A message that reaches many by one call. Its recipients are gathered first."""

    def list_body(self, openids: Sequence[str], message_id: str) -> bytes:
        """The request's body for a list. The same arguments make the same bytes."""
        ...


def is_list(message: object) -> TypeGuard[ListMessage]:
    """Whether a message reaches many by one call. For this, `isinstance` takes 11 µs of each job."""
    return hasattr(message, "list_body")


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """How a mass message ended, and with it all its members."""

    outcome: Outcome
    channel: str
    errcode: int = 0
    msg_id: int | None = None


class MassLedger(Protocol):
    """What the ledger knows of mass messages. As for `Ledger`: on disk when a method returns.

    Who is gathered waits in `gathered`, due with its chunk. Each ends here, or goes on to the next channel;
    then its slice is due, and the tasks see what is left of it.
    """

    async def mass_stand(self, job_no: int) -> MassStand:
        """How far a job's mass messages are."""
        ...

    async def gathered(self, job_no: int, limit: int) -> Sequence[Member]:
        """The first of those who are in no chunk yet, ascending."""
        ...

    async def chunk_members(self, job_no: int, no: int) -> Sequence[Member]:
        """A chunk's list, ascending; empty once it has ended."""
        ...

    async def make_chunk(
        self, job_no: int, ids: Collection[int], gone: Collection[int], now: datetime
    ) -> Chunk | None:
        """Fix a chunk's list and `clientmsgid`. None: the job does not run, or fewer than two are left.

        Who is `gone`, or has opted out by a reply, is `skipped`.
        """
        ...

    async def ask_chunk(self, job_no: int, no: int, now: datetime) -> Sequence[Member] | None:
        """Note that its call may be made from now on; its list. None: it must not be.

        One that may have been made before is counted in doubt, once. A chunk that was certainly not sent yet,
        of which somebody has opted out meanwhile, is given up: its members are gathered anew.
        """
        ...

    async def chunk_not_sent(self, job_no: int, no: int, errcode: int = 0) -> None:
        """The call was certainly not taken; what an earlier one may have done stays in doubt."""
        ...

    async def end_chunk(self, job_no: int, no: int, end: ChunkEnd, now: datetime) -> None:
        """End a chunk and give its members their outcome, in one commit."""
        ...

    async def give_up_chunk(self, job_no: int, no: int, errcode: int = 0) -> None:
        """A chunk that was certainly not sent: its members are gathered anew."""
        ...

    async def halve_chunk(self, job_no: int, no: int, errcode: int, now: datetime) -> None:
        """Two chunks of a refused one's halves; who would be alone in one is gathered anew."""
        ...

    async def pass_on(self, job_no: int, channel_no: int, only_chunk: int | None, now: datetime) -> int:
        """Let a chunk's members go on on another channel; how many they are.

        `only_chunk` None: all who are in no chunk that was asked.
        """
        ...

    async def end_waiting(self, job_no: int, end: ChunkEnd, now: datetime) -> int:
        """Give those who are in no chunk an outcome; how many they are."""
        ...
