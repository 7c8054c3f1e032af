"""How jobs, books and refusals look in a reply. Names are DESIGN's words, everywhere the same."""

from datetime import datetime
from typing import Any

from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.intake import DryRun
from broadcastd.model import Books, Job
from broadcastd.outcomes import Outcome
from broadcastd.ports import Accepted
from broadcastd.refusals import Refusal
from broadcastd.states import JOB_TERMINAL

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
        "balanced": books.balanced,
    }


def job_view(job: Job, entry: OpenJob | None) -> Reply:
    """A whole job. `entry`: what the daemon knows beyond the ledger while it is open."""
    return {
        "job": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "waits_for": waits_for(job, entry),
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
        "books": books_view(job.books),
    }


def job_line(job: Job, entry: OpenJob | None) -> Reply:
    """A job in a list."""
    whole = job_view(job, entry)
    whole["content"] = job.content[:CONTENT_IN_LIST]
    return whole


def accepted_view(accepted: Accepted, entry: OpenJob | None) -> Reply:
    """The answer to a broadcast."""
    job = accepted.job
    return {
        "ok": True,
        "job": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "waits_for": waits_for(job, entry),
        "repeat": accepted.repeat,
        "account": job.account,
        "key": job.key,
        "ref": job.ref,
        "flag": job.flag,
        "test": job.to is not None,
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
    return reply


def waits_for(job: Job, entry: OpenJob | None) -> str:
    """What an open job waits for just now, in plain words; empty when it goes on."""
    if job.state in JOB_TERMINAL:
        return ""
    if entry is None:
        return "its account, or one of its channels, to be in the settings again"
    if entry.held:
        return ""
    return entry.waits_for or entry.account.gate.reason


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
