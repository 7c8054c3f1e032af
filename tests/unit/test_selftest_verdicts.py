"""The verdicts of a selftest: each criterion passes, and each can fail."""

from dataclasses import replace

import pytest

from broadcastd.selftest.counts import Counted, Death, JobCount
from broadcastd.selftest.options import Options
from broadcastd.selftest.verdicts import Verdict, allowed_in_doubt, judge

RESEND = Options(rounds=1, recipients=100, tasks=10, on_unknown="resend", latency_ms=0, seed=1)
LEAVE = replace(RESEND, on_unknown="leave")
BOUND = 160
JOB = JobCount(
    order="order-1", job="j1", recipients=100, received=100, doubled=0, lost=0, state="done", frozen=100,
    in_doubt=5, outcomes={"sent": 100},
)  # fmt: skip
OTHER = replace(JOB, order="order-2", job="j2")


def counted(*jobs: JobCount, deaths: tuple[Death, ...] = (), jobs_in_ledger: int | None = None) -> Counted:
    return Counted(jobs, deaths, len(jobs) if jobs_in_ledger is None else jobs_in_ledger)


def failed(options: Options, seen: Counted) -> dict[str, str]:
    return {verdict.name: verdict.text for verdict in judge(options, seen) if not verdict.ok}


def verdict(options: Options, seen: Counted, name: str) -> Verdict:
    return next(verdict for verdict in judge(options, seen) if verdict.name == name)


def test_all_is_well() -> None:
    deaths = (
        Death("kill", 1, answered=7, in_doubt=BOUND + 7),
        Death("stop", 2, answered=50, in_doubt=0, exit_code=0),
    )
    seen = counted(replace(JOB, doubled=5), OTHER, deaths=deaths)
    assert failed(RESEND, seen) == {}
    assert "5 messages came twice, no more than the 10 in doubt" in verdict(RESEND, seen, "doubled").text
    assert "the most was 167" in verdict(RESEND, seen, "kills").text


def test_who_is_unknown_is_not_lost() -> None:
    seen = counted(replace(JOB, received=96, outcomes={"sent": 95, "unknown": 5}))
    assert failed(LEAVE, seen) == {}
    text = "nobody is lost: of 100, 96 received it, and the other 4 are listed as unknown (unknown in all: 5)"
    assert verdict(LEAVE, seen, "lost").text == text


def test_one_lost_fails() -> None:
    seen = counted(JOB, replace(OTHER, received=99, lost=1, lost_some=("oAbc",)))
    assert failed(RESEND, seen) == {
        "lost": "1 of 200 are lost: neither received nor listed as unknown, such as oAbc of order-2"
    }


def test_a_run_that_reached_for_nobody_proves_nothing() -> None:
    assert "lost" in failed(RESEND, counted())


def test_one_more_twice_than_in_doubt_fails_job_by_job() -> None:
    seen = counted(replace(JOB, doubled=6), replace(OTHER, in_doubt=1000))
    assert failed(RESEND, seen) == {"doubled": "6 messages of order-1 came twice; 5 were in doubt"}


def test_leave_allows_no_double_at_all() -> None:
    seen = counted(replace(JOB, doubled=1))
    assert list(failed(LEAVE, seen)) == ["doubled"]
    assert failed(RESEND, seen) == {}


def test_a_kill_that_leaves_one_too_many_fails() -> None:
    fine, bad = Death("kill", 3, answered=90, in_doubt=200), Death("kill", 4, answered=7, in_doubt=BOUND + 8)
    assert allowed_in_doubt(RESEND, bad) == BOUND + 7
    assert failed(RESEND, counted(JOB, deaths=(fine, bad))) == {
        "kills": "the kill of round 4 left 168 in doubt, more than 160 + 7 answered in the last 100 ms"
    }
    assert failed(RESEND, counted(JOB, deaths=(fine,))) == {}


@pytest.mark.parametrize("state", ["running", "held", "missing"])
def test_a_job_that_has_not_ended_fails(state: str) -> None:
    assert failed(RESEND, counted(JOB, replace(OTHER, state=state))) == {
        "orders": f"2 orders made 2 jobs in the ledger; not ended: order-2 ({state})"
    }


@pytest.mark.parametrize("jobs", [0, 2])
def test_an_order_makes_one_job(jobs: int) -> None:
    assert list(failed(RESEND, counted(JOB, jobs_in_ledger=jobs))) == ["orders"]


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, outcomes={"sent": 99}),
        replace(JOB, outcomes={"sent": 100, "skipped": 1}),
        replace(JOB, frozen=99, outcomes={"sent": 99}),
        replace(JOB, frozen=101, outcomes={"sent": 101}),
    ],
)
def test_books_that_do_not_balance_fail(job: JobCount) -> None:
    assert list(failed(RESEND, counted(job))) == ["books"]


def test_a_daemon_that_ends_by_itself_fails() -> None:
    text = failed(RESEND, counted(JOB, deaths=(Death("crash", 5, answered=0, exit_code=1),)))["ran_on"]
    assert text == "the daemon ended by itself in round 5 (exit code 1)"


def test_a_stop_that_is_not_clean_fails() -> None:
    text = failed(RESEND, counted(JOB, deaths=(Death("stop", 5, answered=0, exit_code=-9),)))["ran_on"]
    assert text == "SIGTERM in round 5 ended with exit code -9"


def test_a_run_that_came_to_a_stop_fails() -> None:
    seen = replace(counted(JOB), trouble="the daemon does not start")
    assert list(failed(RESEND, seen)) == ["finished"]
