"""A job whose every text is hostile, shown by every command: nothing steers the terminal, all is seen."""

import json
import re
from typing import Any

import pytest
from bed.scripted import Run, job_reply, refusal, scripted_daemon

# Clears the screen, sets a title, turns the direction around, markup of rich, a formula, a line of its own.
HOSTILE = (
    "=cmd|' /C'!A0 \x1b[2J\x1b]0;t\x07 \u202e\u200f\x9b31m [red]r[/red] [link=http://evil]l[/link]\nok: [/]"
)
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
OWN_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
MORE = dict.fromkeys(("reason", "waits_for", "account", "key", "ref", "content", "phone"), HOSTILE)
BOOKS = job_reply()["books"]
PERSON = {"ok": True, "id": 1, "openid": HOSTILE, "outcome": "sent", "channel": HOSTILE, "errcode": 0,
          "at": HOSTILE, "round": 1, "delivery": HOSTILE}  # fmt: skip
ACCOUNT = {"wechat": HOSTILE, "audience": HOSTILE}
LANE = {"rate_per_s": None, "in_flight": 0, "limit": 1, "max_in_flight": 1, "state": HOSTILE}
QUOTA = {"path": HOSTILE, "daily_limit": 1, "used": 1, "left": 0, "rate": None, "error": HOSTILE,
         "asked_at": None, "held": HOSTILE}  # fmt: skip


def hostile_job(state: str = "held") -> dict[str, Any]:
    books = {
        **BOOKS,
        "by_channel": {HOSTILE: 690},
        "errcodes": {HOSTILE: 5},
        "deliveries": {HOSTILE: {HOSTILE: 1}},
    }
    meanings = {HOSTILE: {"en": HOSTILE, "zh": HOSTILE}}
    return job_reply(state, books=books, meanings=meanings, warnings=[HOSTILE], **MORE)


def progress(state: str) -> dict[str, Any]:
    return {**hostile_job(state), "rate_per_s": 3.0, "eta_s": 4.0}


COMMANDS: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
    "jobs": (["jobs"], [{"ok": True, "jobs": [hostile_job(), hostile_job("running")]}]),
    "job": (["job", "j1"], [hostile_job()]),
    "pause": (["pause", "j1"], [hostile_job("paused")]),
    "resume": (["resume", "j1"], [hostile_job("running")]),
    "watch": (["watch", "j1"], [progress("running"), progress("done")]),
    "who": (["who", "j1"], [PERSON, {"ok": True, "listed": 1}]),
    "report": (["report", "j1"], [{"ok": True, "report": {**MORE, "hmac": HOSTILE, HOSTILE: HOSTILE,
        "errcodes": {HOSTILE: {"n": 1, "meaning": HOSTILE, "meaning_zh": HOSTILE}},
        "rounds": [{"no": HOSTILE}]}}]),
    "send": (["send", "x"], [{**hostile_job("accepted"), "repeat": False}]),
    "dry run": (["send", "x", "--dry-run"], [{"ok": True, "dry_run": True, "recipients": 1, "slices": 1,
        "messages": {HOSTILE: HOSTILE}, "quota": {"words": HOSTILE}, "warnings": [HOSTILE]}]),
    "info": (["info"], [{"ok": True, "version": HOSTILE, "pid": 1, "uptime_s": 1.0, "in_flight": 0,
        "tasks": {"busy": 0, "all": 60}, "jobs": {"open": 0, "held": 0, HOSTILE: 1}, "ledger": HOSTILE,
        "accounts": {HOSTILE: {**ACCOUNT, "channels": {HOSTILE: LANE}}}}]),
    "ping": (["ping"], [{"ok": True, "version": HOSTILE, "pid": 1, "uptime_s": 1.0}]),
    "rate": (["rate"], [{"ok": True, "accounts": {HOSTILE: {HOSTILE: LANE}}}]),
    "quota": (["quota"], [{"ok": True, "accounts": {HOSTILE: {"channels": {HOSTILE: QUOTA}}}}]),
    "refused": (["job", "j1"], [refusal(HOSTILE, HOSTILE)]),
}  # fmt: skip


@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_steers_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, terminal: bool
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "2000")
    arguments, replies = COMMANDS[name]
    with scripted_daemon(replies) as daemon:
        ran = run(*arguments, "--port", daemon.port)
    shown = ran.out + ran.err
    if terminal:
        shown = OWN_STYLES.sub("", shown)
    assert not STEERING.search(shown), repr(shown)
    assert "\\x1b[2J" in shown
    if "…" not in shown:  # else a table has cut it
        assert "[red]r[/red] [link=http://evil]l[/link]\\nok: [/]" in shown
    assert not any(line.startswith("ok:") for line in shown.splitlines())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("refused", "watch", "who")])
def test_json_has_no_character_that_steers_and_loses_nothing(run: Run, name: str) -> None:
    arguments, replies = COMMANDS[name]
    with scripted_daemon(replies) as daemon:
        ran = run(*arguments, "--json", "--port", daemon.port)
    assert not STEERING.search(ran.out)
    assert json.loads(ran.out) == replies[0]


def test_a_daemon_that_is_none(run: Run) -> None:
    """What answers may be anything; its words are not shown."""
    with scripted_daemon(f"{HOSTILE}\n".encode()) as daemon:
        ran = run("ping", "--port", daemon.port)
    assert ran.code == 3
    assert not STEERING.search(ran.err)
