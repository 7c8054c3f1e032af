"""The report that a payer reads."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.cli.show import console
from broadcastd.cli.show_report import SHOWN, report_rows, report_text

REPORT: dict[str, Any] = {
    "job": "j1", "account": "default", "key": "order-17", "ref": None, "flag": 0, "test": False,
    "state": "done", "final": True, "content_sha256": "c0ffee",
    "messages_sha256": {"custom": "abc", "template": "def"},
    "accepted_at": "2026-11-24T10:00:00.000+00:00", "not_before": None, "not_after": None,
    "first_sent_at": "2026-11-24T10:00:01.000+00:00", "last_sent_at": "2026-11-24T10:00:05.000+00:00",
    "finished_at": "2026-11-24T10:00:06.000+00:00", "duration_s": 1234.5, "rate_per_s": 300.2,
    "recipients": 1200,
    "outcomes": {"sent": 1190, "rejected": 4, "failed": 3, "unknown": 2, "skipped": 1},
    "by_channel": {"custom": 990, "template": 200},
    "errcodes": {"40003": {"n": 4, "meaning": "invalid openid"}}, "in_doubt": 2,
    "rounds": [
        {"no": 1, "only": None, "recipients": 1200, "ended": 1200, "accepted_at": "2026-11-24T10:00:00+00:00",
         "finished_at": "2026-11-24T10:00:06+00:00"},
        {"no": 2, "only": ["failed", "unknown"], "recipients": 5, "ended": 3,
         "accepted_at": "2026-11-24T11:00:00+00:00", "finished_at": None},
    ],
    "balanced": True, "hmac": "5ea1", "hmac_of": "the report without hmac, as JSON with sorted keys",
}  # fmt: skip


def test_every_fact_is_shown_once_with_its_meaning() -> None:
    rows = list(report_rows(REPORT))
    found = dict(rows)
    assert len(found) == len(rows)
    assert found["job"] == "j1"
    assert found["flag"] == "0"
    assert found["recipients"] == "1,200"
    assert found["  sent"] == "1,190  WeChat took the message"
    assert found["  unknown"] == "2  asked, no answer: it may have arrived"
    assert found["sent by"] == "custom 990, template 200"
    assert found["errcode 40003"] == "4  invalid openid"
    assert found["duration"] == "1,234.5 s"
    assert found["rate"] == "300.2 a second"
    assert found["round 1"].startswith("everybody: 1,200 of 1,200 ended; 2026-11-2")
    assert " to 2026-11-2" in found["round 1"]
    assert found["round 2"].startswith("failed and unknown: 3 of 5 ended; 2026-11-2")
    assert " to " not in found["round 2"]
    assert found["sha256 of template message"] == "def"
    assert found["balanced"].startswith("yes")
    assert found["final"] == "yes"
    assert found["hmac"] == "5ea1"
    assert "test send" not in found
    assert "test send" in dict(report_rows({**REPORT, "test": True}))
    assert "ref" not in found
    assert "not before" not in found


def test_what_is_not_final_or_balanced_says_so() -> None:
    found = dict(report_rows({"job": "j1", "state": "running", "final": False, "balanced": False}))
    assert found["final"] == "no: the figures may still change"
    assert found["balanced"].startswith("no")


def test_a_fact_that_a_later_daemon_adds_is_shown_too() -> None:
    assert dict(report_rows({"new_fact": 12000, "other": "x"})) == {"new fact": "12,000", "other": "x"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(SHOWN)) | st.text(), JSON))
def test_no_report_at_all_makes_it_fail(report: dict[str, Any]) -> None:
    for name, text in report_rows(report):
        assert isinstance(name, str)
        assert isinstance(text, str)


def test_on_a_terminal_it_cannot_steer(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(report_text({**REPORT, "key": "求購\x1b[2J[red]", "extra": "\u202e"}))
    shown = capsys.readouterr().out
    assert "求購\\x1b[2J[red]" in shown
    assert "\\u202e" in shown
    assert REPORT["hmac_of"] in shown
    lines = shown.splitlines()
    assert lines[0] == "job                         j1"
    assert all(line == line.rstrip() for line in lines)
