"""How a closing report looks to whoever paid for the broadcast. It shows whatever the report holds."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from broadcastd.cli.show import plain

Rows = Iterable[tuple[str, str]]
Show = Callable[[Any], Rows]

MEANINGS = {
    "sent": "WeChat took the message",
    "rejected": "WeChat refused it for good, for this recipient",
    "failed": "not sent: the retries are used up",
    "unknown": "asked, no answer: it may have arrived",
    "skipped": "not asked: opted out, cancelled, or past the deadline",
}


def report_text(report: Mapping[str, Any]) -> Text:
    """One fact a line."""
    rows = [(plain(name), plain(text)) for name, text in report_rows(report)]
    width = max((name.cell_len for name, _ in rows), default=0)
    lines = []
    for name, text in rows:
        name.stylize("bold")
        lines.append(name + " " * (width + 2 - name.cell_len) + text)
    return Text("\n").join(lines)


def report_rows(report: Mapping[str, Any]) -> Rows:
    """Name and text of each fact: those known here in their order, then any other one as it is."""
    given = {name: value for name, value in report.items() if value not in (None, "", {}, [])}
    for name, show in SHOWN.items():
        if name in given:
            yield from show(given.pop(name))
    for name, value in given.items():
        yield name.replace("_", " "), number(value)


def number(value: Any) -> str:
    """A number with its thousands apart; all else as it is."""
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def moment(value: Any) -> str:
    """In this machine's time, with its offset: a proof is read elsewhere, too."""
    try:
        return datetime.fromisoformat(value).astimezone().isoformat(" ", "seconds")
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _fact(label: str, show: Callable[[Any], str] = str) -> Show:
    return lambda value: [(label, show(value))]


def _outcomes(value: Any) -> Rows:
    for outcome, n in _items(value):
        yield f"  {outcome}", f"{number(n)}  {MEANINGS.get(outcome, '')}".rstrip()


def _errcodes(value: Any) -> Rows:
    for code, entry in _items(value):
        known = entry if isinstance(entry, dict) else {"n": entry}
        words = " ".join(filter(None, (known.get("meaning"), known.get("meaning_zh"))))
        yield f"errcode {code}", f"{number(known.get('n'))}  {words}".rstrip()


def _warnings(value: Any) -> Rows:
    for one in value if isinstance(value, list) else [value]:
        yield "warning", str(one)


def _rounds(value: Any) -> Rows:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            of = " and ".join(map(str, one.get("only") or ["everybody"]))
            counts = f"{number(one.get('ended'))} of {number(one.get('recipients'))} ended"
            until = f" to {moment(one['finished_at'])}" if one.get("finished_at") else ""
            yield f"round {one.get('no')}", f"{of}: {counts}; {moment(one.get('accepted_at'))}{until}"
        else:
            yield "round", str(one)


def _mass(value: Any) -> Rows:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            known = f", {one['status']}: {number(one.get('sent_count'))} sent" if one.get("status") else ""
            told = f"{number(one.get('size'))} in the list, {one.get('state')}{known}"
            yield f"mass message {one.get('chunk')}", told
        else:
            yield "mass message", str(one)


def _hashes(value: Any) -> Rows:
    for channel, digest in _items(value):
        yield f"sha256 of {channel} message", str(digest)


def _deliveries(value: Any) -> Rows:
    for channel, ends in _items(value):
        shown = ", ".join(f"{number(n)} {end}" for end, n in _items(ends))
        yield f"deliveries by {channel}".rstrip(), shown


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else [("", value)]


def _channels(value: Any) -> str:
    return ", ".join(f"{channel} {number(n)}".strip() for channel, n in _items(value))


def _final(value: Any) -> str:
    return "yes" if value is True else "no: the figures may still change"


def _balanced(value: Any) -> str:
    return "yes: everybody has exactly one outcome" if value is True else "no: somebody has no outcome yet"


SHOWN: Mapping[str, Show] = {
    "job": _fact("job"),
    "account": _fact("account"),
    "key": _fact("key"),
    "ref": _fact("ref"),
    "flag": _fact("flag"),
    "test": lambda value: [("test send", "yes: only to openids that were named")] if value else [],
    "state": _fact("state"),
    "final": _fact("final", _final),
    "accepted_at": _fact("accepted", moment),
    "not_before": _fact("not before", moment),
    "not_after": _fact("not after", moment),
    "first_sent_at": _fact("first sent", moment),
    "last_sent_at": _fact("last sent", moment),
    "finished_at": _fact("finished", moment),
    "duration_s": _fact("duration", lambda value: f"{number(value)} s"),
    "rate_per_s": _fact("rate", lambda value: f"{number(value)} a second"),
    "recipients": _fact("recipients", number),
    "outcomes": _outcomes,
    "balanced": _fact("balanced", _balanced),
    "by_channel": _fact("sent by", _channels),
    "errcodes": _errcodes,
    "in_doubt": _fact("in doubt, ever", number),
    "deliveries": _deliveries,
    "warnings": _warnings,
    "calls_saved": _fact("calls saved", number),
    "mass": _mass,
    "rounds": _rounds,
    "content_sha256": _fact("sha256 of content"),
    "messages_sha256": _hashes,
    "hmac_of": _fact("hmac of"),
    "hmac": _fact("hmac"),
}
