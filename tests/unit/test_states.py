from broadcastd.states import JOB_ARROWS, JOB_OPEN, JOB_TERMINAL, JobState, sources_of


def test_the_arrows_are_these():
    arrows = {(a.value, b.value) for a, to in JOB_ARROWS.items() for b in to}
    assert arrows == {
        ("accepted", "running"),
        ("accepted", "held"),
        ("running", "held"),
        ("running", "done"),
        ("held", "running"),
    }


def test_every_state_has_a_row_and_only_done_is_the_end():
    assert set(JOB_ARROWS) == set(JobState)
    assert {JobState.DONE} == JOB_TERMINAL
    assert {JobState.ACCEPTED, JobState.RUNNING, JobState.HELD} == JOB_OPEN


def test_sources_of_are_the_arrows_backwards():
    for target in JobState:
        assert set(sources_of(target)) == {state for state in JobState if target in JOB_ARROWS[state]}


def test_every_state_can_be_reached_and_left_for_done():
    reached = {JobState.ACCEPTED}
    for _ in JobState:
        reached |= {to for state in reached for to in JOB_ARROWS[state]}
    assert reached == set(JobState)
