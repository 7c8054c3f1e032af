"""Mass messages as the layers hand them to each other. Values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from broadcastd.states import ChunkState


@dataclass(frozen=True, slots=True)
class Chunk:
    """One mass message: its list and `clientmsgid` never change."""

    job_no: int
    no: int
    clientmsgid: str
    state: ChunkState
    size: int
    """How many are in its list."""
    tries: int
    """Calls that may have been made."""
    made_at: datetime
    asked_at: datetime | None = None
    """The last such call."""
    first_asked_at: datetime | None = None
    """The first one, of those that may have arrived."""
    msg_id: int | None = None
    errcode: int = 0
    result: Mapping[str, object] | None = None
    """Of WeChat's later event; None: not known."""


@dataclass(frozen=True, slots=True)
class MassStand:
    """How far a job's mass messages are."""

    chunks: Sequence[Chunk]
    """Those that are made or asked, the first one first."""
    waiting: int
    """Gathered for no chunk yet."""
    others_left: bool
    """Whether somebody of the job may still be gathered."""
