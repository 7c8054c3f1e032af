"""What is counted while the daemon works."""

import re
from pathlib import Path

import pytest

from broadcastd import transports
from broadcastd.channels import wechat
from broadcastd.metrics import (
    OTHER,
    UNREADABLE,
    Calls,
    FrameCounts,
    Histogram,
    JobCounts,
    Tally,
    trouble_kind,
)
from broadcastd.outcomes import Answer, Outcome


def test_a_value_counts_at_its_bound_and_at_all_above():
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in (0.05, 0.1, 0.11, 5.0, 11.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("0.1", 2), ("1.0", 3), ("10.0", 4), ("+Inf", 5)]
    assert histogram.total == pytest.approx(16.26)


def test_an_empty_histogram_has_all_its_bounds():
    assert Histogram((1.0,)).cumulative() == [("1.0", 0), ("+Inf", 0)]


def test_answers_are_counted_by_errcode_and_kind_of_trouble():
    calls = Calls()
    for answer in (Answer(), Answer(), Answer(45015), Answer(unanswered="no answer in time")):
        calls.ended(answer, 0.02)
    assert calls.answers == {0: 2, 45015: 1, "timeout": 1}
    assert calls.latency_s.cumulative()[-1] == ("+Inf", 4)


def test_strangers_cannot_add_labels():
    """An API that has gone mad must not fill the memory of whoever watches."""
    calls = Calls()
    for number in range(1_000):
        calls.ended(Answer(9_000_000 + number), 0.1)
        calls.ended(Answer(unanswered=f"HTTP {number}"), 0.1)
        calls.ended(Answer(refused=f"no connection: {number}"), 0.1)
    assert set(calls.answers) == {OTHER, "http_4xx", "http_5xx", "http_other", "no_connection"}


def test_every_trouble_of_the_api_has_a_kind_of_its_own():
    """The texts as they stand in the code: one that is changed there must not become `unreadable` here."""
    files = [Path(wechat.__file__), *Path(transports.__file__).parent.glob("*.py")]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    said = re.findall(r'(?:refused=|unanswered=|return |\n[A-Z_]+ = )f?"([a-zHT][^"]{6,})"', source)
    kinds = {text: trouble_kind(Answer(unanswered=text.replace("{status}", "500"))) for text in said}
    assert len(kinds) >= 8
    assert {text for text, kind in kinds.items() if kind == UNREADABLE} == {
        "an answer far too long for WeChat",
        "the server hung up",  # said behind a colon only
        "an answer in an encoding that nobody asked for",
        "an answer that is no WeChat answer",
        "an errcode that is none of WeChat's",
    }


def test_outcomes_of_an_account_and_when_the_last_one_came():
    tally = Tally()
    assert tally.last_at_s is None
    tally.ended("custom", Outcome.SENT, 5.0)
    tally.ended("mass", Outcome.SENT, 7.0, 10_000)
    tally.ended("custom", Outcome.SENT, 8.0)
    assert tally.outcomes == {("custom", Outcome.SENT): 2, ("mass", Outcome.SENT): 10_000}
    assert tally.last_at_s == 8.0


def test_jobs_and_frames():
    jobs, frames = JobCounts(), FrameCounts()
    for repeat in (False, True, True):
        jobs.take("default", repeat=repeat)
    jobs.end("default", "done")
    assert (jobs.accepted, jobs.repeated) == ({"default": 1}, {"default": 2})
    assert jobs.finished == {("default", "done"): 1}
    frames.answered("ping", "ok")
    frames.answered("ping", "ok")
    assert frames.results == {("ping", "ok"): 2}
