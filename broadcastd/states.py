"""The states of a job and of a slice, and the arrows between them."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. The ledger moves it only along `JOB_ARROWS`."""

    ACCEPTED = "accepted"  # on disk; nobody has been frozen yet
    RUNNING = "running"  # its audience is being frozen, or its recipients are being asked
    HELD = "held"  # waits for an operator, with the reason in plain words; nothing is lost
    PAUSED = "paused"  # an operator stopped it; goes on when an operator says so
    CANCELLING = "cancelling"  # cancelled; calls under way end, then who is left gets an outcome
    CANCELLED = "cancelled"  # an operator ended it, and the books balance
    EXPIRING = "expiring"  # past its deadline; else as `cancelling`
    EXPIRED = "expired"  # its deadline ended it, and the books balance
    DONE = "done"  # everybody was asked, and the books balance

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended: only a retry makes it go on."""
        return self in JOB_TERMINAL


_CLOSING = frozenset({JobState.CANCELLING, JobState.EXPIRING})

JOB_ARROWS: dict[JobState, frozenset[JobState]] = {
    JobState.ACCEPTED: frozenset({JobState.RUNNING, JobState.HELD, JobState.PAUSED, *_CLOSING}),
    JobState.RUNNING: frozenset({JobState.HELD, JobState.PAUSED, JobState.DONE, *_CLOSING}),
    JobState.HELD: frozenset({JobState.ACCEPTED, JobState.RUNNING, JobState.PAUSED, *_CLOSING}),
    JobState.PAUSED: frozenset({JobState.ACCEPTED, JobState.RUNNING, *_CLOSING}),
    JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    JobState.EXPIRING: frozenset({JobState.EXPIRED}),
    # A retry starts a new round.
    JobState.CANCELLED: frozenset({JobState.RUNNING}),
    JobState.EXPIRED: frozenset({JobState.RUNNING}),
    JobState.DONE: frozenset({JobState.RUNNING}),
}

JOB_TERMINAL = frozenset({JobState.CANCELLED, JobState.EXPIRED, JobState.DONE})
JOB_OPEN = frozenset(JobState) - JOB_TERMINAL
JOB_CLOSING = _CLOSING
JOB_GOING = frozenset({JobState.ACCEPTED, JobState.RUNNING})
"""In these a job goes on by itself."""


def sources_of(target: JobState) -> tuple[JobState, ...]:
    """The states from which a job may move to `target`: the WHERE of a conditional update."""
    return tuple(state for state, to in JOB_ARROWS.items() if target in to)


class SliceState(StrEnum):
    """Where a slice stands."""

    OPEN = "open"  # free to be leased once its `due_at` has come
    LEASED = "leased"  # a task works on it, until its lease ends
    DONE = "done"  # nobody of it will be asked again in its round


class ChunkState(StrEnum):
    """Where a mass message's call stands. Its list and its `clientmsgid` never change."""

    MADE = "made"  # certainly not sent: not asked yet, or refused for now
    ASKED = "asked"  # asked, and no answer is noted: it may have been sent
    SENT = "sent"  # WeChat took it
    REFUSED = "refused"  # WeChat did not take it, and it is not asked again; its members went elsewhere
    UNKNOWN = "unknown"  # it got no answer for so long that a repeat would no longer be told apart


CHUNK_OPEN = frozenset({ChunkState.MADE, ChunkState.ASKED})
