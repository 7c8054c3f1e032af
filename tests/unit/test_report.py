import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from bed.fakes import T0, a_job

from broadcastd.delivery.report import is_genuine, report_of
from broadcastd.model import Books, Round
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState

KEY = "00ff" * 16


@pytest.fixture
def job():
    books = Books(
        recipients=1500,
        planned=True,
        outcomes={Outcome.SENT: 1490, Outcome.REJECTED: 10},
        sent_by_channel={"custom": 1200, "template": 290},
        errcodes={43004: 10},
        in_doubt=3,
    )
    return replace(
        a_job(),
        state=JobState.DONE,
        content="求購二手挖掘機一台",
        key="order-17",
        messages={"custom": "text", "template": "{}"},
        books=books,
        first_sent_at=T0 + timedelta(seconds=1),
        last_sent_at=T0 + timedelta(seconds=3),
        finished_at=T0 + timedelta(seconds=4),
    )


ROUNDS = [Round(1, None, T0, T0 + timedelta(seconds=4), 1500, 1500)]


def test_it_says_what_the_payer_wants_to_know(job):
    report = report_of(job, ROUNDS, KEY)
    assert report["content_sha256"] == hashlib.sha256("求購二手挖掘機一台".encode()).hexdigest()
    assert report["messages_sha256"]["custom"] == hashlib.sha256(b"text").hexdigest()
    assert (report["job"], report["key"], report["state"], report["final"]) == (
        job.id, "order-17", "done", True,
    )  # fmt: skip
    assert (report["recipients"], report["outcomes"]["sent"], report["outcomes"]["unknown"]) == (
        1500,
        1490,
        0,
    )
    assert report["by_channel"] == {"custom": 1200, "template": 290}
    assert report["errcodes"]["43004"]["n"] == 10
    assert "follow" in report["errcodes"]["43004"]["meaning"]
    assert (report["duration_s"], report["rate_per_s"]) == (4, 745)
    assert ".0" not in json.dumps(report["duration_s"]), "JavaScript and PHP would write it without"
    assert report["first_sent_at"] == "2026-01-31T00:00:01.000+00:00"
    assert report["rounds"][0]["recipients"] == 1500


def test_anybody_with_the_key_can_check_it_with_nothing_but_a_json_library(job):
    report = json.loads(json.dumps(report_of(job, ROUNDS, KEY)))
    given = report.pop("hmac")
    signed = json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest() == given


def test_a_report_that_was_touched_is_not_genuine(job):
    report = report_of(job, ROUNDS, KEY)
    assert is_genuine(report, KEY)
    assert is_genuine(dict(reversed(report.items())), KEY), "the order of its fields says nothing"
    for name in report:
        assert not is_genuine({**report, name: "else"}, KEY)
        assert not is_genuine({other: value for other, value in report.items() if other != name}, KEY)
    assert not is_genuine(report, "another key")
    assert not is_genuine({**report, "extra": 1}, KEY)
    assert not is_genuine({}, KEY)
    nested: dict[str, object] = {}
    for _ in range(300):
        nested = {"deeper": nested}
    assert not is_genuine({**report, "extra": nested}, KEY)
    assert not is_genuine({**report, "recipients": 2**70}, KEY)
    assert not is_genuine({**report, "hmac": "\udcff"}, KEY)


def test_a_job_that_runs_has_a_report_that_is_not_final(job):
    report = report_of(replace(job, state=JobState.RUNNING, finished_at=None), ROUNDS, KEY)
    assert (report["final"], report["duration_s"]) == (False, None)


def test_one_message_has_no_rate(job):
    assert report_of(replace(job, last_sent_at=job.first_sent_at), ROUNDS, KEY)["rate_per_s"] is None
