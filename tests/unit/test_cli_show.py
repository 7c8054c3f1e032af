"""Jobs on a terminal: states, rounds, times."""

from typing import Any

import pytest
from bed.scripted import job_reply

from broadcastd.cli.drain import drain_line
from broadcastd.cli.progress import follow
from broadcastd.cli.show import WHAT_NEXT, console, job_table, jobs_table, local, round_line, state_of
from broadcastd.states import JobState

SECOND = {"no": 2, "only": ["failed", "unknown"], "recipients": 45, "ended": 30}


def shown(capsys: pytest.CaptureFixture[str], what: Any) -> str:
    console().print(what)
    return capsys.readouterr().out


def test_a_state_names_its_round_from_the_second_on() -> None:
    assert state_of({"state": "running"}) == "running"
    assert state_of(job_reply("running")) == "running"
    assert state_of(job_reply("running", round=SECOND)) == "running, round 2"
    assert round_line(SECOND) == "2, of failed and unknown: 30 of 45 ended"


def test_hints_belong_to_states() -> None:
    assert set(WHAT_NEXT) <= set(JobState)


def test_a_job_shows_its_times_round_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    job = job_reply("paused", not_before="2026-11-24T10:00:00+00:00", not_after="2026-11-25T10:00:00+00:00")
    text = shown(capsys, job_table({**job, "round": SECOND, "on_unknown": "leave"}))
    lines = dict(line.split("  ", 1) for line in text.splitlines())
    assert "paused, round 2  (`broadcastd resume` lets it go on)" in lines["state"]
    assert "2026-11-2" in lines["not before"]
    assert "2026-11-2" in lines["not after"]
    assert "2, of failed and unknown: 30 of 45 ended" in lines["round"]
    assert "leave" in lines["on unknown"]
    assert "求購玉米" in lines["content"]


def test_the_first_round_and_missing_times_take_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, job_table(job_reply("done")))
    assert "round" not in text
    assert "not before" not in text


def test_a_daemon_that_knows_no_rounds_is_shown_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    job = job_reply("running")
    for name in ("round", "not_before", "not_after", "on_unknown"):
        del job[name]
    assert "running" in shown(capsys, job_table(job))


def test_a_list_says_why_some_stand(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [
        job_reply("paused", job="jA", reason="by an operator"),
        job_reply("accepted", job="jB", waits_for="its time, 18:00"),
        job_reply("running", job="jC", round=SECOND),
    ]
    lines = shown(capsys, jobs_table(jobs)).splitlines()
    assert "jA paused: by an operator" in lines
    assert "jB waits for: its time, 18:00" in lines
    assert any("jC" in line and "running, round 2" in line for line in lines)


def test_a_followed_retry_counts_whom_it_asks_again(capsys: pytest.CaptureFixture[str]) -> None:
    line = {**job_reply("running", round=SECOND), "rate_per_s": 10.0, "eta_s": 2}
    line["books"] = {**line["books"], "remaining": 0, "ended": 1200}
    last = follow([line, {**line, "state": "cancelled"}])
    assert last["state"] == "cancelled"
    text = capsys.readouterr().out
    assert "running, round 2 30 of 45 690 custom, 10/s, ETA 2 s" in text
    assert text.splitlines()[-1].startswith("cancelled, round 2: 1,200 = 690 custom")


def test_a_deadline_is_told_while_it_matters(capsys: pytest.CaptureFixture[str]) -> None:
    ends_at = "2026-11-25T10:00:00+00:00"
    jobs = [job_reply(state, job=f"j-{state}", not_after=ends_at) for state in ("running", "expired")]
    assert shown(capsys, jobs_table(jobs)).splitlines()[-1] == f"j-running until {local(ends_at)}"
    follow([{**job, "rate_per_s": 0, "eta_s": None} for job in jobs])
    followed = capsys.readouterr().out
    assert f"running 700 of 1,200 690 custom, until {local(ends_at)}\n" in followed
    assert "expired 700 of 1,200 690 custom\n" in followed


def test_a_drain_in_one_line() -> None:
    reply = {"state": "draining", "jobs": {"open": 3, "going": 2, "waiting": 1}, "remaining": 12000}
    assert drain_line(reply) == "draining: 3 jobs open (2 going, 1 waiting), 12,000 recipients left"
