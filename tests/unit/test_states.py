from broadcastd.states import JOB_ARROWS, JOB_CLOSING, JOB_GOING, JOB_OPEN, JOB_TERMINAL, JobState, sources_of

ARROWS = """
accepted: running held paused cancelling expiring
running: held paused cancelling expiring done
held: accepted running paused cancelling expiring
paused: accepted running cancelling expiring
cancelling: cancelled
expiring: expired
cancelled: running
expired: running
done: running
"""


def test_the_arrows_are_these():
    drawn = {line.partition(": ")[0]: line.partition(": ")[2].split() for line in ARROWS.strip().splitlines()}
    assert {a.value: sorted(b.value for b in to) for a, to in JOB_ARROWS.items()} == {
        a: sorted(to) for a, to in drawn.items()
    }


def test_every_state_has_a_row_and_ends_are_ends():
    assert set(JOB_ARROWS) == set(JobState)
    assert {one.value for one in JOB_TERMINAL} == {"done", "cancelled", "expired"}
    assert set(JobState) - JOB_TERMINAL == JOB_OPEN
    assert {one for one in JobState if one.is_terminal} == JOB_TERMINAL
    # A job that has ended goes on by a retry only, and nothing interrupts one that is closing.
    assert {to for one in JOB_TERMINAL for to in JOB_ARROWS[one]} == {JobState.RUNNING}
    assert {to for one in JOB_CLOSING for to in JOB_ARROWS[one]} < JOB_TERMINAL
    assert JOB_GOING < JOB_OPEN - JOB_CLOSING


def test_sources_of_are_the_arrows_backwards():
    for target in JobState:
        assert set(sources_of(target)) == {state for state in JobState if target in JOB_ARROWS[state]}


def test_every_state_can_be_reached():
    reached = {JobState.ACCEPTED}
    for _ in JobState:
        reached |= {to for state in reached for to in JOB_ARROWS[state]}
    assert reached == set(JobState)
