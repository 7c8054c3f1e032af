"""The closing report: what the payer gets as a proof, with an HMAC over it all. Pure."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from broadcastd.chunks import Chunk
from broadcastd.errcodes import meaning_of
from broadcastd.model import Job, Round
from broadcastd.outcomes import Outcome

Report = dict[str, Any]

SIGNED = "HMAC-SHA256 of the JSON of all other fields: keys sorted, no spaces, UTF-8"


def report_of(job: Job, rounds: Sequence[Round], key: str, chunks: Sequence[Chunk] = ()) -> Report:
    """What became of a job. `final` is true once it has ended: only then is the report a proof."""
    books = job.books
    span = _seconds(job.first_sent_at, job.last_sent_at)
    sent = books.outcomes.get(Outcome.SENT, 0)
    report: Report = {
        "job": job.id,
        "account": job.account,
        "key": job.key,
        "ref": job.ref,
        "flag": job.flag,
        "test": job.to is not None,
        "state": job.state.value,
        "final": job.state.is_terminal,
        "content_sha256": _sha256(job.content),
        "messages_sha256": {name: _sha256(text) for name, text in job.messages.items()},
        "accepted_at": _iso(job.accepted_at),
        "not_before": _iso(job.not_before),
        "not_after": _iso(job.not_after),
        "first_sent_at": _iso(job.first_sent_at),
        "last_sent_at": _iso(job.last_sent_at),
        "finished_at": _iso(job.finished_at),
        "duration_s": _seconds(job.accepted_at, job.finished_at),
        "rate_per_s": _plain(sent / span, 1) if span else None,
        "recipients": books.recipients,
        "outcomes": {outcome.value: books.outcomes.get(outcome, 0) for outcome in Outcome},
        "by_channel": dict(books.sent_by_channel),
        "errcodes": {
            str(code): {"n": n, "meaning": meaning_of(code).en, "meaning_zh": meaning_of(code).zh}
            for code, n in books.errcodes.items()
        },
        "in_doubt": books.in_doubt,
        "deliveries": {channel: dict(ends) for channel, ends in books.deliveries.items()},
        "warnings": list(job.warnings),
        "calls_saved": job.calls_saved,
        "balanced": books.balanced,
        "mass": [chunk_facts(one) for one in chunks],
        "rounds": [_round(one) for one in rounds],
        "hmac_of": SIGNED,
    }
    return {**report, "hmac": _hmac(report, key)}


def chunk_facts(chunk: Chunk) -> Report:
    """One mass message. There is no result for a single recipient: these counts are all that WeChat tells."""
    result = chunk.result or {}
    return {
        "chunk": chunk.no,
        "state": chunk.state.value,
        "size": chunk.size,
        "calls": chunk.tries,
        "clientmsgid": chunk.clientmsgid,
        "msg_id": chunk.msg_id,
        "errcode": chunk.errcode,
        "status": result.get("status"),
        "total_count": result.get("total"),
        "filter_count": result.get("filtered"),
        "sent_count": result.get("sent"),
        "error_count": result.get("errors"),
    }


def is_genuine(report: Report, key: str) -> bool:
    """Whether this very report was made with this key."""
    rest = {name: value for name, value in report.items() if name != "hmac"}
    given = report.get("hmac")
    try:
        return isinstance(given, str) and hmac.compare_digest(
            given.encode(errors="replace"), _hmac(rest, key).encode()
        )
    except TypeError:  # nested deeper than any report, or numbers beyond 64 bits
        return False


def _hmac(report: Report, key: str) -> str:
    signed = orjson.dumps(report, option=orjson.OPT_SORT_KEYS)
    return hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()


def _round(one: Round) -> Report:
    return {
        "no": one.no,
        "only": None if one.only is None else [outcome.value for outcome in one.only],
        "recipients": one.recipients,
        "ended": one.ended,
        "accepted_at": _iso(one.accepted_at),
        "finished_at": _iso(one.finished_at),
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _seconds(first: datetime | None, last: datetime | None) -> float | None:
    return None if first is None or last is None else _plain((last - first).total_seconds(), 3)


def _plain(number: float, digits: int) -> float:
    """Whole numbers without a `.0`: other languages drop it, and the HMAC is over the text."""
    rounded = round(number, digits)
    return int(rounded) if rounded == int(rounded) else rounded
