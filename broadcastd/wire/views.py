"""How jobs, books and refusals look in a reply. Names are DESIGN's words, everywhere the same."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.canary import OK, Sung
from broadcastd.delivery.forecast import Forecast, Need
from broadcastd.delivery.intake import DryRun
from broadcastd.delivery.quota_table import QuotaRow
from broadcastd.errcodes import meaning_of
from broadcastd.model import Books, Job, Listed, Round
from broadcastd.outcomes import Outcome
from broadcastd.ports import Accepted
from broadcastd.refusals import Refusal
from broadcastd.states import JOB_GOING, JOB_TERMINAL

CONTENT_IN_LIST = 60
"""Characters of the content that a list of jobs shows."""

Reply = dict[str, Any]


def books_view(books: Books) -> Reply:
    """A job's totals."""
    return {
        "recipients": books.recipients,
        "planned": books.planned,
        "ended": books.ended,
        "remaining": books.recipients - books.ended,
        **{outcome.value: books.outcomes.get(outcome, 0) for outcome in Outcome},
        "by_channel": dict(books.sent_by_channel),
        "errcodes": {str(code): n for code, n in books.errcodes.items()},
        "in_doubt": books.in_doubt,
        "deliveries": {channel: dict(ends) for channel, ends in books.deliveries.items()},
        "balanced": books.balanced,
    }


def job_view(job: Job, entry: OpenJob | None, trouble: str) -> Reply:
    """A whole job. `entry`: what is known beyond the ledger while it is open; `trouble`: the ledger's."""
    return {
        "job": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "held_until": _iso(job.hold.until),
        "waits_for": waits_for(job, entry, trouble),
        "account": job.account,
        "key": job.key,
        "ref": job.ref,
        "flag": job.flag,
        "content": job.content,
        "phone": job.phone,
        "test": job.to is not None,
        "channels": list(job.channels),
        "accepted_at": _iso(job.accepted_at),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
        "first_sent_at": _iso(job.first_sent_at),
        "last_sent_at": _iso(job.last_sent_at),
        "not_before": _iso(job.not_before),
        "not_after": _iso(job.not_after),
        "on_unknown": job.on_unknown.value,
        "warnings": list(job.warnings),
        "calls_saved": job.calls_saved,
        "meanings": _meanings(job.books),
        "round": round_view(job.round),
        "books": books_view(job.books),
    }


def _meanings(books: Books) -> Reply:
    rows = {str(code): meaning_of(code) for code in books.errcodes}
    return {code: {"en": row.en, "zh": row.zh} for code, row in rows.items()}


def round_view(one: Round) -> Reply:
    """The present round."""
    return {
        "no": one.no,
        "only": None if one.only is None else [outcome.value for outcome in one.only],
        "recipients": one.recipients,
        "ended": one.ended,
    }


def job_line(job: Job, entry: OpenJob | None, trouble: str) -> Reply:
    """A job in a list."""
    whole = job_view(job, entry, trouble)
    whole["content"] = job.content[:CONTENT_IN_LIST]
    return whole


def forecast_view(forecast: Forecast | None) -> Reply | None:
    """What a job needs of the day's calls."""
    if forecast is None:
        return None
    return {
        **{need.channel: _need(need) for need in forecast.needs},
        "fits": forecast.fits,
        "words": forecast.words,
    }


def _need(need: Need) -> Reply:
    quota = need.quota
    return {
        "needed": need.needed,
        "upper_bound": need.upper_bound,
        "before": need.before,
        "daily_limit": quota.daily_limit if quota else None,
        "used": quota.used if quota else None,
        "left": quota.left if quota else None,
        "age_s": need.age_s,
    }


def quota_view(row: QuotaRow) -> Reply:
    """One row of the table."""
    quota = row.seen.quota if row.seen else None
    return {
        "path": row.path,
        "daily_limit": quota.daily_limit if quota else None,
        "used": quota.used if quota else None,
        "left": quota.left if quota else None,
        "rate": {"calls": quota.rate_calls, "per_s": quota.rate_s} if quota and quota.rate_calls else None,
        "asked_at": _iso(row.seen.at) if row.seen else None,
        "error": row.error,
        "held": row.held,
    }


def accepted_view(
    accepted: Accepted, entry: OpenJob | None, trouble: str, forecast: Forecast | None
) -> Reply:
    """The answer to a broadcast."""
    job = accepted.job
    return {
        "ok": True,
        "job": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "waits_for": waits_for(job, entry, trouble),
        "repeat": accepted.repeat,
        "account": job.account,
        "key": job.key,
        "ref": job.ref,
        "flag": job.flag,
        "test": job.to is not None,
        "warnings": list(job.warnings),
        "quota": forecast_view(forecast),
        "books": books_view(job.books),
    }


def dry_run_view(dry_run: DryRun) -> Reply:
    """The answer to a dry run."""
    return {
        "ok": True,
        "dry_run": True,
        "recipients": dry_run.recipients,
        "slices": dry_run.slices,
        "messages": dict(dry_run.messages),
        "warnings": list(dry_run.warnings),
        "quota": forecast_view(dry_run.quota),
    }


def refusal_view(refusal: Refusal) -> Reply:
    """The answer to what is not carried out."""
    reply: Reply = {
        "ok": False,
        "error": refusal.code.word,
        "message": refusal.message,
        "retry": refusal.code.retry,
    }
    if refusal.job_id is not None:
        reply["job"] = refusal.job_id
    if refusal.state is not None:
        reply["state"] = refusal.state
    return reply


def canary_view(sung: Sung, covers: Callable[[str], bool], now_s: float) -> Reply:
    """What the canary found, of the accounts that the caller may know of."""
    names = [name for name in sung.plan if covers(name)]
    parts = {name: {"plan": sung.plan[name], "token": sung.token[name]} for name in names}
    words = [sung.intake, *(word for one in parts.values() for word in one.values())]
    return {
        "ok": True,
        "op": "canary",
        "healthy": all(word == OK for word in words),
        "intake": sung.intake,
        "accounts": parts,
        "age_s": round(max(0.0, now_s - sung.at_s), 1),
    }


def listed_view(one: Listed) -> Reply:
    """One recipient."""
    return {
        "ok": True,
        "id": one.recipient_id,
        "openid": one.openid,
        "outcome": None if one.outcome is None else one.outcome.value,
        "channel": one.channel,
        "errcode": one.errcode,
        "at": _iso(one.at),
        "round": one.round_no,
        "delivery": one.delivery or None,
    }


def waits_for(job: Job, entry: OpenJob | None, trouble: str) -> str:
    """What an open job waits for just now, in plain words; empty when it goes on."""
    if job.state in JOB_TERMINAL:
        return ""
    if entry is None:
        return "its account, or one of its channels, to be in the settings again"
    if entry.state not in JOB_GOING:
        return ""
    if not entry.due and job.not_before is not None:
        return f"its time, {job.not_before:%Y-%m-%d %H:%M:%S} UTC"
    return trouble or entry.kept_by


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
