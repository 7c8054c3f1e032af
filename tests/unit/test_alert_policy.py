"""When an alert goes out: told at once, reminded at growing intervals, and never a storm."""

import itertools
import json
from datetime import timedelta

import pytest
from bed.fakes import T0
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.alerts.policy import MOST_AN_HOUR, MOST_EVENTS_AN_HOUR, MOST_TROUBLES, REMINDERS_S, Policy
from broadcastd.notices import Notice, NoticeKind

HELD = Notice(NoticeKind.JOB_HELD, "j1", {"reason": "nobody"})
NOT_HELD = Notice(NoticeKind.JOB_HELD, "j1", over=True)
DONE = Notice(NoticeKind.JOB_FINISHED, "j1", {"sent": 3}, lasts=False)
MINUTE, HOUR, DAY = 60, 3600, 86400


def refused(number):
    return Notice(NoticeKind.FRAME_REFUSED, facts={"error": f"e{number}"})


class Desk:
    """A policy with its clock; what it has told as (minutes after the start, in short)."""

    def __init__(self, **how):
        self.policy, self.now, self.told = Policy(**how), T0, []

    def take(self, *notices):
        for notice in notices:
            self._note(self.policy.take(notice, self.now))

    def passes(self, seconds, step=MINUTE):
        """As the alerter and the monitor do: look when something is due."""
        end = self.now + timedelta(seconds=seconds)
        while (at := self.policy.next_at()) is not None and at <= end:
            self.now = max(self.now, at)
            self._note(self.policy.due(self.now))
        self.now = end

    def _note(self, alerts):
        for one in alerts:
            words = one.kind.value if one.kind else f"more {sum(one.more.values())}"
            words += " still" * (one.reminder and not one.over) + " over" * one.over
            words += f" x{one.again}" if one.again else ""
            self.told.append((round((self.now - T0).total_seconds() / 60), words))


def test_a_trouble_is_told_at_once_again_at_growing_intervals_and_when_it_is_over():
    desk = Desk()
    desk.take(HELD)
    desk.passes(3 * DAY)
    desk.take(NOT_HELD)
    desk.passes(2 * DAY)
    day = 24 * 60
    first = 15 + 60 + 240
    assert desk.told == [
        (0, "job_held"),
        (15, "job_held still"),
        (15 + 60, "job_held still"),
        (first, "job_held still"),
        (first + day, "job_held still"),
        (first + 2 * day, "job_held still"),
        (3 * day, "job_held over"),
    ]
    assert desk.policy.next_at() is None, "nothing of it is left"


def test_what_is_said_again_in_between_is_only_counted():
    desk = Desk()
    desk.take(*[HELD] * 5)
    assert desk.told == [(0, "job_held")]
    desk.passes(15 * MINUTE)
    assert desk.told[1:] == [(15, "job_held still x4")]


def test_the_newest_facts_are_told():
    desk = Desk()
    desk.take(HELD, Notice(NoticeKind.JOB_HELD, "j1", {"reason": "another one"}))
    (alert,) = desk.policy.due(T0 + timedelta(hours=1))
    assert alert.facts == {"reason": "another one"}
    (over,) = desk.policy.take(Notice(NoticeKind.JOB_HELD, "j1", {"state": "running"}, over=True), T0)
    assert over.facts == {"reason": "another one", "state": "running"}


def test_two_troubles_of_one_kind_are_two():
    desk = Desk()
    desk.take(HELD, Notice(NoticeKind.JOB_HELD, "j2"), Notice(NoticeKind.JOB_STUCK, "j1"), NOT_HELD)
    assert [words for _, words in desk.told] == ["job_held", "job_held", "job_stuck", "job_held over"]


def test_the_end_of_what_nobody_was_told_of_is_not_told():
    desk = Desk()
    desk.take(NOT_HELD, NOT_HELD, HELD, NOT_HELD, NOT_HELD)
    assert [words for _, words in desk.told] == ["job_held", "job_held over"]


def test_a_trouble_that_comes_and_goes_every_minute_does_not_storm():
    desk = Desk()
    for _ in range(12 * 60):
        desk.take(HELD)
        desk.passes(30)
        desk.take(NOT_HELD)
        desk.passes(30)
    at_first = [one for one in desk.told if one[0] < 15]
    twice = [(0, "job_held"), (0, "job_held over"), (1, "job_held x1"), (2, "job_held over")]
    assert at_first == [*twice, (2, "job_held x1")]
    assert len(desk.told) <= 2 * (len(REMINDERS_S) + 1)
    assert not [words for _, words in desk.told[5:] if "over" in words], "it is never told for over"
    desk.passes(15 * MINUTE)
    assert desk.told[-1][1].startswith("job_held over")


def test_what_is_back_after_its_end_was_told_is_told_at_once():
    desk = Desk()
    desk.take(HELD, NOT_HELD)
    desk.passes(30)
    desk.take(HELD)
    desk.passes(MINUTE)
    assert [words for _, words in desk.told] == ["job_held", "job_held over", "job_held x1"]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40 * MINUTE)), max_size=20))
def test_nobody_is_left_with_the_word_that_it_is_over_while_it_is_not(steps):
    """Of one trouble that is not damped by the most an hour."""
    desk = Desk()
    for there, seconds in steps:
        desk.take(HELD if there else NOT_HELD)
        last = desk.told[-1][1] if desk.told else "over"
        assert ("over" not in last) or not there
        desk.passes(seconds)
        last = desk.told[-1][1] if desk.told else "over"
        assert ("over" not in last) or not there


def test_the_end_of_what_keeps_coming_back_waits_for_quiet():
    desk = Desk()
    desk.take(HELD, NOT_HELD, HELD, NOT_HELD, HELD, NOT_HELD)
    desk.passes(14 * MINUTE)
    desk.take(HELD, NOT_HELD)
    assert [words for _, words in desk.told] == [
        "job_held", "job_held over", "job_held x1", "job_held over", "job_held x1",
    ]  # fmt: skip
    desk.passes(DAY)
    assert desk.told[5:] == [(14 + 15, "job_held over x1")]
    desk.take(HELD)
    assert desk.told[6:] == [(14 + 24 * 60, "job_held")], "long after that it is a new one"


def test_a_trouble_that_is_back_after_quiet_begins_anew():
    desk = Desk()
    desk.take(HELD, NOT_HELD)
    desk.passes(15 * MINUTE)
    desk.take(HELD)
    desk.passes(15 * MINUTE)
    assert desk.told[2:] == [(15, "job_held"), (30, "job_held still")]


def test_what_an_earlier_run_has_told_is_only_reminded_of_and_ended():
    desk = Desk()
    desk.take(Notice(NoticeKind.ACCOUNT_HELD, "default", known=True))
    assert desk.told == []
    desk.passes(15 * MINUTE)
    desk.take(Notice(NoticeKind.ACCOUNT_HELD, "default", over=True))
    assert desk.told == [(15, "account_held still"), (15, "account_held over")]


def test_refused_frames_are_gathered_with_the_last_examples():
    desk = Desk()
    desk.take(refused(0))
    assert desk.told == [(0, "frame_refused x1")]
    for number in range(1, 200):
        desk.take(refused(number))
    assert desk.told[1:] == []
    (alert,) = desk.policy.due(T0 + timedelta(minutes=10))
    assert alert.again == 199
    assert [facts["error"] for facts in alert.examples] == ["e195", "e196", "e197", "e198", "e199"]


def test_frames_refused_without_end_are_told_at_most_once_an_hour_in_the_end():
    desk = Desk()
    for _ in range(6 * 60):
        desk.take(refused(1))
        desk.passes(MINUTE)
    minutes = [at for at, _ in desk.told]
    pauses = [later - earlier for earlier, later in itertools.pairwise(minutes)]
    assert pauses[:3] == [10, 20, 40]
    assert set(pauses[3:]) == {60}
    desk.passes(2 * HOUR)
    desk.take(refused(2))
    assert desk.told[-1] == (8 * 60, "frame_refused x1")


def test_a_finished_job_is_told_if_asked_for_once_and_without_reminder():
    desk = Desk()
    desk.take(DONE)
    assert desk.told == []
    desk = Desk(job_finished=True)
    desk.take(DONE)
    desk.passes(2 * DAY)
    assert desk.told == [(0, "job_finished")]


def test_kinds_that_are_off_are_not_told():
    desk = Desk(off=(NoticeKind.JOB_HELD, NoticeKind.FRAME_REFUSED))
    desk.take(HELD, refused(1), Notice(NoticeKind.JOB_STUCK, "j1"))
    assert desk.told == [(0, "job_stuck")]


def test_too_many_are_summed_up():
    desk = Desk()
    desk.take(*(Notice(NoticeKind.JOB_HELD, f"j{number}") for number in range(100)))
    assert len(desk.told) == MOST_AN_HOUR
    desk.passes(10 * MINUTE)
    assert desk.told[MOST_AN_HOUR:] == [(10, f"more {100 - MOST_AN_HOUR}")]


def test_events_leave_room_for_troubles():
    desk = Desk(job_finished=True)
    done = (Notice(NoticeKind.JOB_FINISHED, f"j{number}", lasts=False) for number in range(100))
    desk.take(*done, Notice(NoticeKind.LEDGER_UNWRITABLE))
    assert len(desk.told) == MOST_EVENTS_AN_HOUR + 1
    assert desk.told[-1] == (0, "ledger_unwritable")


def test_troubles_without_number_take_no_room_without_bound():
    desk = Desk()
    desk.take(*(Notice(NoticeKind.JOB_HELD, f"j{number}") for number in range(5 * MOST_TROUBLES)))
    assert len(desk.policy.state["troubles"]) == MOST_TROUBLES


SOME = [
    HELD,
    NOT_HELD,
    DONE,
    refused(1),
    Notice(NoticeKind.DAEMON_DOWN),
    Notice(NoticeKind.DAEMON_DOWN, over=True),
]


@given(st.lists(st.tuples(st.sampled_from(SOME), st.integers(0, 2 * HOUR)), max_size=60))
def test_a_policy_that_is_kept_in_a_file_between_goes_on_as_one_that_is_not(steps):
    whole, kept = Desk(job_finished=True), Desk(job_finished=True)
    for notice, seconds in steps:
        for desk in (whole, kept):
            desk.take(notice)
            desk.passes(seconds)
        state = json.loads(json.dumps(kept.policy.state))
        kept.policy = Policy(job_finished=True, state=state)
    assert kept.told == whole.told


@given(st.lists(st.tuples(st.sampled_from(SOME), st.integers(0, HOUR)), max_size=200))
def test_never_more_than_so_many_an_hour_and_no_end_without_a_beginning(steps):
    desk = Desk()
    for notice, seconds in steps:
        desk.take(notice)
        desk.passes(seconds)
    minutes = [at for at, _ in desk.told]
    assert max((sum(1 for at in minutes if since <= at < since + 60) for since in minutes), default=0) <= (
        MOST_AN_HOUR + 6
    )
    there = False
    for _, words in desk.told:
        if words.startswith("daemon_down"):
            assert "over" not in words or there or " x" in words
            there = "over" not in words


@pytest.mark.parametrize("state", [None, {}])
def test_a_first_run_has_no_state(state):
    assert Policy(state=state).next_at() is None
