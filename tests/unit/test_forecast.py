"""What is needed against what is left. Pure."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from broadcastd.delivery.forecast import Asked, Reset, Seen, forecast, renewed
from broadcastd.model import Quota

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
SHANGHAI = Reset("00:00", ZoneInfo("Asia/Shanghai"))
MIDNIGHT = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
CUSTOM, TEMPLATE = "custom", "template"


def seen(ago_s=10, **left):
    """Figures of some seconds ago: channel to what is left of 1,000."""
    at = NOW - timedelta(seconds=ago_s)
    return {name: Seen(Quota(1000, 1000 - n, n), at) for name, n in left.items()}


def of(known, recipients=600, channels=(CUSTOM, TEMPLATE), begins=NOW, before=0):
    return forecast(Asked(channels, recipients, begins, before), known, SHANGHAI, NOW)


def test_enough_of_each():
    found = of(seen(custom=600, template=600))
    assert found.fits is True
    assert found.warnings == ()
    assert found.words == (
        "custom: 600 are needed, 600 of 1,000 calls are left today;"
        " template: up to 600 are needed, 600 of 1,000 calls are left today"
    )
    assert [need.age_s for need in found.needs] == [10, 10]


def test_one_call_too_few_of_the_first_channel():
    found = of(seen(custom=599, template=600))
    assert found.fits is False
    assert found.warnings == (
        "quota of custom: 600 are needed, 599 of 1,000 calls are left today: 1 too few;"
        " who is left waits until it is back",
    )


def test_what_a_later_channel_needs_is_an_upper_bound():
    found = of(seen(custom=600, template=50))
    assert found.fits is False
    (warning,) = found.warnings
    assert "template: up to 600 are needed, 50 of 1,000 calls are left today: 550 may be too few" in warning


def test_jobs_before_it_need_some_of_it():
    found = of(seen(custom=1000, template=1000), before=500)
    assert found.fits is False
    assert found.words.startswith("custom: 600 are needed after up to 500 for jobs before it, 1,000 of 1,000")
    assert [need.missing for need in found.needs] == [100, 100]
    assert of(seen(custom=1000, template=1000), before=400).fits is True


@pytest.mark.parametrize("recipients", [0, 600, None])
def test_what_is_not_known_is_not_said_to_fit(recipients):
    found = of({}, recipients)
    assert (found.fits, found.warnings) == (None, ())
    assert "custom: what is left is not known yet" in found.words
    assert of(seen(custom=600, template=600), None).fits is None
    # One channel is enough to know that it does not fit.
    assert of(seen(custom=1)).fits is False


def test_figures_of_yesterday_are_those_of_a_whole_day_today():
    a_day_ago = 86_400
    (need,) = of(seen(a_day_ago, custom=0), channels=(CUSTOM,)).needs
    assert (need.quota.left, need.missing) == (1000, 0)


def test_a_job_of_tomorrow_has_tomorrows_calls():
    known = seen(custom=0)
    assert of(known, channels=(CUSTOM,), begins=MIDNIGHT).fits is True
    assert of(known, channels=(CUSTOM,), begins=MIDNIGHT - timedelta(seconds=1)).fits is False


def test_new_warnings_replace_the_former_ones_about_quotas_only():
    about = ("quota of custom: 1 too few", "thing1 is cut", "quota of template: 2 too few")
    assert renewed(about, ("quota of custom: 9 too few",)) == ("thing1 is cut", "quota of custom: 9 too few")
    assert renewed(about, ()) == ("thing1 is cut",)


@pytest.mark.parametrize(
    ("at", "timezone", "moment", "then"),
    [
        ("00:00", "Asia/Shanghai", "2026-11-24T04:00:00+00:00", "2026-11-24T16:00:00+00:00"),
        ("00:00", "Asia/Shanghai", "2026-11-24T16:00:00+00:00", "2026-11-25T16:00:00+00:00"),
        ("08:30", "Asia/Shanghai", "2026-11-24T00:00:00+00:00", "2026-11-24T00:30:00+00:00"),
        # The last Sunday of October has 25 hours in Berlin.
        ("00:00", "Europe/Berlin", "2026-10-24T22:00:00+00:00", "2026-10-25T23:00:00+00:00"),
    ],
)
def test_when_the_day_begins(at, timezone, moment, then):
    reset = Reset(at, ZoneInfo(timezone))
    assert reset.after(datetime.fromisoformat(moment)) == datetime.fromisoformat(then)


def test_a_mass_message_is_one_call_for_10_000():
    found = of(seen(mass=5), recipients=25_001, channels=("mass",), before=10_001)
    assert [(need.needed, need.before, need.missing) for need in found.needs] == [(3, 2, 0)]
    assert of(seen(mass=4), recipients=25_001, channels=("mass",), before=10_001).fits is False
