"""Times as an operator types them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.cli.moment import moment

NOW = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("2026-11-24T18:00+08:00", "2026-11-24T18:00:00+08:00"),
        ("2026-11-24T18:00Z", "2026-11-24T18:00:00+00:00"),
        ("2026-11-24T18:00", "2026-11-24T18:00:00+08:00"),
        (" 2026-11-24 18:00:30 ", "2026-11-24T18:00:30+08:00"),
        ("1795514400", "2026-11-24T10:00:00+00:00"),
        ("+30s", "2026-11-24T10:00:30+00:00"),
        ("+90m", "2026-11-24T11:30:00+00:00"),
        ("+2h", "2026-11-24T12:00:00+00:00"),
        ("+1d", "2026-11-25T10:00:00+00:00"),
    ],
)
@pytest.mark.usefixtures("shanghai")
def test_what_a_time_means(typed: str, means: str) -> None:
    assert moment(typed, NOW) == means


@pytest.mark.parametrize("typed", ["2026-11-24", "20261124", "18:00", "tomorrow 8:00", "", "+2w", "-1h"])
def test_what_could_mean_several_moments_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r"time of day|isoformat"):
        moment(typed, NOW)


@given(st.text() | st.from_regex(r"\+?[0-9]{1,12}[smhd:T-]?"))
def test_anything_else_is_one_of_two_errors_or_a_moment_with_an_offset(typed: str) -> None:
    try:
        means = moment(typed, NOW)
    except (ValueError, OverflowError):
        return
    assert datetime.fromisoformat(means).utcoffset() is not None
