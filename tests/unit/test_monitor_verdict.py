"""The monitor's judgment: what is trouble, what is told, what a restart may mend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bed.fakes import T0

from broadcastd.monitor.restarts import Restarts
from broadcastd.monitor.verdict import CHECKS, Certificate, Facts, Limits, Port, Standing, judge

LIMITS = Limits(256, timedelta(days=14))
INFO: dict[str, Any] = {
    "progress": "ok",
    "stuck": [],
    "ledger": "ok",
    "jobs": {"held": 0},
    "accounts": {"default": {"wechat": "ok"}},
}
CANARY: dict[str, Any] = {"intake": "ok", "accounts": {"default": {"plan": "ok", "token": "ok"}}}
WELL = Facts(Port.ANSWERS, canary=CANARY, info=INFO, free_mb=1000)
DOWN = Facts(Port.REFUSED, "nobody listens", Standing.CRASHED, free_mb=1000)


def bad(facts: Facts) -> dict[str, str]:
    """Check to words, of what is not well."""
    return {one.check: one.words for one in judge(facts, LIMITS, T0) if not one.ok}


def restarting(facts: Facts, limits: Limits = LIMITS) -> bool:
    return any(one.restart for one in judge(facts, limits, T0))


def with_info(**fields: Any) -> Facts:
    return replace(WELL, info={**INFO, **fields})


def test_all_is_well() -> None:
    assert not bad(WELL)
    assert {one.check for one in judge(WELL, LIMITS, T0)} == CHECKS.keys() - {"certificate"}


@pytest.mark.parametrize(
    ("facts", "restart"),
    [
        (DOWN, True),
        (replace(DOWN, standing=Standing.UNKNOWN), True),
        (replace(DOWN, standing=Standing.STOPPED), False),
        (replace(DOWN, standing=Standing.STARTING), False),
        (replace(DOWN, standing=Standing.STOPPING), False),
        (replace(DOWN, port=Port.SILENT), True),
        (replace(DOWN, port=Port.SILENT, standing=Standing.STARTING), False),
        (replace(DOWN, port=Port.FOREIGN), False),
        (with_info(progress="ledger: it has not answered for 70 s"), True),
        (with_info(ledger="the ledger cannot be written"), False),
        (with_info(accounts={"default": {"wechat": "held: 48001"}}), False),
        (replace(WELL, free_mb=5), False),
        (replace(WELL, canary={"intake": "ok", "accounts": {"a": {"plan": "away", "token": "none"}}}), False),
    ],
)
def test_only_what_a_restart_may_mend_is_restarted(facts: Facts, restart: bool) -> None:
    assert restarting(facts) is restart
    assert bad(facts) or facts.info != INFO


def test_one_that_was_stopped_is_started_only_where_that_is_wanted() -> None:
    stopped = replace(DOWN, standing=Standing.STOPPED)
    assert "it was stopped" in bad(stopped)["port"]
    assert restarting(stopped, replace(LIMITS, restart_when_stopped=True))


def test_the_certificates_end() -> None:
    ends = [Certificate(f"server.{days}", T0 + timedelta(days=days)) for days in (-1, 13, 15)]
    facts = replace(WELL, certificates=(*ends, Certificate("http.tls_cert", None, "cannot be read")))
    found = [one for one in judge(facts, LIMITS, T0) if one.check == "certificate"]
    assert [one.ok for one in found] == [False, False, True, False]
    assert "has expired on" in found[0].words
    assert "ends on" in found[1].words
    assert len({one.about for one in found}) == 4


def test_what_the_daemon_has_told_is_not_told_again() -> None:
    stuck = {"job": "j1", "account": "default", "since": "…", "why": "why", "told": True}
    (one,) = (one for one in judge(with_info(stuck=[stuck]), LIMITS, T0) if one.check == "stuck")
    assert not one.ok
    assert one.notice is None
    (one,) = (
        one for one in judge(with_info(stuck=[{**stuck, "told": False}]), LIMITS, T0) if one.check == "stuck"
    )
    assert one.notice is not None
    full = replace(with_info(ledger="the disk is full"), canary={**CANARY, "intake": "the disk is full"})
    (one,) = (one for one in judge(full, LIMITS, T0) if one.check == "intake")
    assert (one.ok, one.notice) == (False, None)


def test_a_drain_is_shown() -> None:
    (one,) = (one for one in judge(with_info(accepts="draining"), LIMITS, T0) if one.check == "intake")
    assert one.ok
    assert "it drains" in one.words


def test_a_daemon_that_answers_pings_only_is_in_trouble() -> None:
    facts = replace(WELL, info=None, canary=None, missing={"info": "no answer in time", "canary": "x"})
    assert set(bad(facts)) == {"progress", "intake"}
    assert not restarting(facts)


def test_restarts_come_at_growing_gaps_and_begin_anew_after_a_calm_hour() -> None:
    restarts, now = Restarts(), T0
    gaps = []
    for _ in range(4):
        restarts.done(now)
        restarts.saw(now, trouble=True)
        next_at = restarts.next_at(now)
        assert next_at is not None
        gaps.append((next_at - now).total_seconds() / 60)
        now = next_at
        assert restarts.next_at(now) is None
    assert gaps == [5, 15, 60, 60]
    restarts.saw(now, trouble=True)
    restarts.saw(now + timedelta(minutes=1), trouble=False)
    assert restarts.step == 4
    restarts.saw(now + timedelta(minutes=61), trouble=False)
    assert restarts.step == 0
    restarts.done(now)
    assert restarts.next_at(now - timedelta(days=1)) is None  # the clock was set back


def test_moments_are_told_in_words() -> None:
    facts = replace(WELL, certificates=(Certificate("server.tls_cert", datetime(2026, 2, 1, tzinfo=UTC)),))
    assert bad(facts) == {"certificate": "server.tls_cert ends on 2026-02-01 00:00 UTC"}
