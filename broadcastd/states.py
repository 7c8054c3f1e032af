"""The states of a job and of a slice, and the arrows between them."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. The ledger moves it only along `JOB_ARROWS`."""

    ACCEPTED = "accepted"  # on disk; nobody has been frozen yet
    RUNNING = "running"  # its audience is being frozen, or its recipients are being asked
    HELD = "held"  # waits for an operator, with the reason in plain words; nothing is lost
    DONE = "done"  # the books balance


JOB_ARROWS: dict[JobState, frozenset[JobState]] = {
    JobState.ACCEPTED: frozenset({JobState.RUNNING, JobState.HELD}),
    JobState.RUNNING: frozenset({JobState.HELD, JobState.DONE}),
    JobState.HELD: frozenset({JobState.RUNNING}),
    JobState.DONE: frozenset(),
}

JOB_TERMINAL = frozenset(state for state, to in JOB_ARROWS.items() if not to)
JOB_OPEN = frozenset(JobState) - JOB_TERMINAL


def sources_of(target: JobState) -> tuple[JobState, ...]:
    """The states from which a job may move to `target`: the WHERE of a conditional update."""
    return tuple(state for state, to in JOB_ARROWS.items() if target in to)


class SliceState(StrEnum):
    """Where a slice stands."""

    OPEN = "open"  # free to be leased once its `due_at` has come
    LEASED = "leased"  # a task works on it, until its lease ends
    DONE = "done"  # each of its frozen recipients has an outcome
