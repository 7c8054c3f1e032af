"""The live bar of `broadcastd watch`: done, rate, ETA, per channel; plain lines when it is no terminal."""

from collections.abc import Iterable
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from broadcastd.cli.show import books_line, console, deadline_of, plain, state_of
from broadcastd.log import escaped


def follow(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Show progress lines as they come; the last one."""
    out = console()
    last: dict[str, Any] = {}
    if out.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[more]}", markup=False),
        )
        with Progress(*columns, console=out) as progress:
            bar = progress.add_task("planning", total=None, more="")
            for last in lines:
                now = _present(last)
                progress.update(
                    bar,
                    description=escaped(state_of(last)),
                    completed=now["ended"],
                    total=now["recipients"] if last["books"]["planned"] else None,
                    more=_more(last),
                )
    else:
        shown = ""
        for last in lines:
            now = _present(last)
            line = f"{escaped(state_of(last))} {now['ended']:,} of {now['recipients']:,} {_more(last)}"
            if line != shown:
                out.print(line, markup=False)
                shown = line
    if last:
        out.print(plain(f"{state_of(last)}: {books_line(last['books'])}"))
    return last


def _present(line: dict[str, Any]) -> dict[str, Any]:
    """What is going on: a retry counts only whom it asks again."""
    now: dict[str, Any] = line.get("round") or line["books"]
    return now


def _more(line: dict[str, Any]) -> str:
    parts = [f"{n:,} {channel}" for channel, n in sorted(line["books"]["by_channel"].items())]
    if line["rate_per_s"]:
        parts.append(f"{line['rate_per_s']:,.0f}/s")
    now = _present(line)
    if line["eta_s"] is not None and now["recipients"] > now["ended"]:
        parts.append(f"ETA {line['eta_s']:,.0f} s")
    for trouble in (deadline_of(line), line["reason"], line["waits_for"]):
        if trouble:
            parts.append(trouble)
    return escaped(", ".join(parts))
