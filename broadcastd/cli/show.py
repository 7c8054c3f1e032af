"""How jobs and books look on a terminal."""

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from broadcastd.log import escaped
from broadcastd.states import JOB_TERMINAL

PIPE_WIDTH = 200
OUTCOMES = ("sent", "rejected", "failed", "unknown", "skipped")
FACTS = (
    "reason", "waits_for", "account", "key", "ref", "flag", "phone", "content", "on_unknown",
)  # fmt: skip
TIMES = (
    "held_until",
    "accepted_at", "not_before", "not_after", "started_at", "first_sent_at", "last_sent_at", "finished_at",
)  # fmt: skip
WHAT_NEXT = {
    "paused": "`broadcastd resume` lets it go on",
    "held": "waits for an operator, for the reason below",
    "cancelling": "calls under way end first",
    "expiring": "past its deadline; calls under way end first",
    "expired": "past its deadline",
}


def console() -> Console:
    """Where results go. Without a terminal there are no colours, and lines are as long as they are."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def plain(value: Any) -> Text:
    """A text from outside: no markup, no control characters."""
    return Text(escaped(str(value)))


def local(moment: str | None) -> str:
    """An ISO time of a reply, in this machine's timezone."""
    return "" if moment is None else datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def books_line(books: dict[str, Any]) -> str:
    """`1,500 = 1,200 custom + 300 template + 0 rejected + 0 failed + 0 unknown + 0 skipped`."""
    parts = [f"{n:,} {channel}" for channel, n in sorted(books["by_channel"].items())] or ["0 sent"]
    parts += [f"{books[outcome]:,} {outcome}" for outcome in OUTCOMES[1:]]
    if books["remaining"]:
        parts.append(f"{books['remaining']:,} not yet")
    return f"{books['recipients']:,} = {' + '.join(parts)}"


def state_of(job: dict[str, Any]) -> str:
    """`running`, or `running, round 2`."""
    now = job.get("round") or {"no": 1}
    return f"{job['state']}, round {now['no']}" if now["no"] > 1 else str(job["state"])


def deadline_of(job: dict[str, Any]) -> str:
    """Until when an open job may run; empty when there is no end to it."""
    ends = job["state"] not in JOB_TERMINAL and job.get("not_after")
    return f"until {local(job['not_after'])}" if ends else ""


def round_line(now: dict[str, Any]) -> str:
    """`2, of failed and unknown: 30 of 45 ended`."""
    of = " and ".join(now.get("only") or ("everybody",))
    return f"{now['no']}, of {of}: {now['ended']:,} of {now['recipients']:,} ended"


def _notes(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    meanings = job.get("meanings") or {}
    for code, n in job["books"]["errcodes"].items():
        meaning = meanings.get(code) or {}
        yield f"errcode {code}", f"{n:,}  {meaning.get('en', '')} {meaning.get('zh', '')}".rstrip()
    if job.get("calls_saved"):
        yield "calls saved", f"{job['calls_saved']:,} that WeChat would have refused"
    for warning in job.get("warnings") or ():
        yield "warning", warning


def job_table(job: dict[str, Any]) -> Table:
    """One job, a row a fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("job", plain(job["job"]))
    hint = WHAT_NEXT.get(job["state"])
    table.add_row("state", plain(state_of(job) + (f"  ({hint})" if hint else "")))
    for name in FACTS:
        value = job.get(name)
        if value not in (None, ""):
            table.add_row(name.replace("_", " "), plain(value))
    for name in TIMES:
        if job.get(name):
            table.add_row(name.replace("_", " "), local(job[name]))
    if (now := job.get("round")) and now["no"] > 1:
        table.add_row("round", plain(round_line(now)))
    books = job["books"]
    table.add_row("books", plain(books_line(books) + ("" if books["planned"] else "  (still being planned)")))
    for channel, ends in (books.get("deliveries") or {}).items():
        shown = ", ".join(f"{n:,} {end}" for end, n in ends.items())
        table.add_row(plain(f"deliveries by {channel}"), plain(shown))
    if books["in_doubt"]:
        table.add_row("in doubt", f"{books['in_doubt']:,} (ever; see docs/protocol.md)")
    for label, text in _notes(job):
        table.add_row(plain(label), plain(text))
    return table


def jobs_table(jobs: list[dict[str, Any]]) -> Group:
    """Several jobs, a row each; below them why some stand, and their deadlines."""
    table = Table(box=None, pad_edge=False)
    for column in ("job", "state", "accepted", "key", "ref", "sent", "of", "content"):
        table.add_column(
            column, justify="right" if column in ("sent", "of") else "left", no_wrap=column != "content"
        )
    notes: list[Text] = []
    for job in jobs:
        books = job["books"]
        key, ref, content = (plain(job[name] or "") for name in ("key", "ref", "content"))
        sent, of = f"{books['sent']:,}", f"{books['recipients']:,}"
        table.add_row(
            plain(job["job"]), plain(state_of(job)), local(job["accepted_at"]), key, ref, sent, of, content
        )
        if trouble := job["reason"] or job["waits_for"]:
            notes.append(plain(f"{job['job']} {job['state'] if job['reason'] else 'waits for'}: {trouble}"))
        notes += [plain(f"{job['job']} warning: {warning}") for warning in job.get("warnings") or ()]
        if until := deadline_of(job):
            notes.append(plain(f"{job['job']} {until}"))
    return Group(table, *notes)
