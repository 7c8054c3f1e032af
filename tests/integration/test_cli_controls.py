"""The operator's commands against a scripted daemon: what they send, what they print, how they end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.ports import free_port
from bed.scripted import Ran, Run, job_reply, refusal, scripted_daemon


@pytest.mark.parametrize(
    ("op", "state"), [("pause", "paused"), ("resume", "running"), ("cancel", "cancelling")]
)
def test_a_control_sends_its_op_and_shows_the_job(run: Run, op: str, state: str) -> None:
    with scripted_daemon([job_reply(state)], [job_reply(state)]) as daemon:
        ran = run(op, "j1", "--port", daemon.port)
        as_json = run(op, "j1", "--port", daemon.port, "--json")
    assert daemon.received == [f'{{"op":"{op}","job":"j1"}}\n'.encode()] * 2
    assert (ran.code, ran.err) == (0, "")
    assert state in ran.out
    assert "1,200 = 690 custom" in ran.out
    assert "求購玉米" in ran.out
    assert json.loads(as_json.out) == job_reply(state)
    assert "求購玉米" in as_json.out


@pytest.mark.parametrize("op", ["pause", "resume", "cancel"])
def test_a_state_that_does_not_allow_it_is_code_5(run: Run, op: str) -> None:
    no = refusal("wrong_state", "job j1 is done: nothing to pause\x1b[2J", job="j1", state="done")
    with scripted_daemon([no]) as daemon:
        ran = run(op, "j1", "--port", daemon.port)
    assert ran == Ran(5, "", "broadcastd: wrong_state: job j1 is done: nothing to pause\\x1b[2J\n")


RETRY = ("retry", "j1", "--only", "failed")


@pytest.mark.parametrize("command", [("pause", "j1"), RETRY, ("drain",), ("who", "j1")])
def test_no_daemon_is_code_3(run: Run, command: tuple[str, ...]) -> None:
    ran = run(*command, "--port", free_port())
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("broadcastd: no daemon answers on 127.0.0.1:")
    assert ran.err.count("\n") == 1


def test_cancel_asks_on_a_terminal(run: Run, typed: Callable[[str], None]) -> None:
    with scripted_daemon([job_reply("running")], [job_reply("cancelled")]) as daemon:
        typed("y\n")
        ran = run("cancel", "j1", "--port", daemon.port, "--json")
    assert [frame["op"] for frame in daemon.frames] == ["job", "cancel"]
    asked = "j1: 500 of 1,200 recipients have no outcome yet; they would be skipped. Cancel it? [y/N]"
    assert asked in ran.err
    assert ran.code == 0
    assert json.loads(ran.out)["state"] == "cancelled"


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_cancel_without_a_yes_changes_nothing(run: Run, typed: Callable[[str], None], answer: str) -> None:
    with scripted_daemon([job_reply("running")]) as daemon:
        typed(answer)
        ran = run("cancel", "j1", "--port", daemon.port)
    assert [frame["op"] for frame in daemon.frames] == ["job"]
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith("broadcastd: nothing was changed\n")


def test_cancel_with_the_end_of_input_is_interrupted(run: Run, typed: Callable[[str], None]) -> None:
    with scripted_daemon([job_reply("running")]) as daemon:
        typed("")
        assert run("cancel", "j1", "--port", daemon.port).code == 130
    assert [frame["op"] for frame in daemon.frames] == ["job"]


def test_cancel_does_not_ask_with_yes(run: Run, typed: Callable[[str], None]) -> None:
    with scripted_daemon([job_reply("cancelled")]) as daemon:
        typed("n\n")
        assert run("cancel", "j1", "--yes", "--port", daemon.port).code == 0
    assert [frame["op"] for frame in daemon.frames] == ["cancel"]


def second(only: list[str]) -> dict[str, Any]:
    return job_reply("running", round={"no": 2, "only": only, "recipients": 5, "ended": 0})


def test_retry_names_the_next_round(run: Run) -> None:
    with scripted_daemon([job_reply("done")], [second(["failed", "unknown"])]) as daemon:
        only = ("--only", "failed", "--only", "unknown", "--only", "failed")
        ran = run("retry", "j1", *only, "--not-after", "2026-11-24T18:00+08:00", "--port", daemon.port)
    assert daemon.frames == [
        {"op": "job", "job": "j1"},
        {
            "op": "retry", "job": "j1", "only": ["failed", "unknown"], "round": 2,
            "not_after": "2026-11-24T18:00:00+08:00",
        },
    ]  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert "2, of failed and unknown: 0 of 5 ended" in ran.out


def test_a_round_that_somebody_else_has_started_is_not_taken_for_ones_own(run: Run) -> None:
    with scripted_daemon([job_reply("done")], [second(["rejected"])]) as daemon:
        ran = run("retry", "j1", "--only", "failed", "--port", daemon.port)
    assert ran.code == 1
    assert ran.err == (
        "broadcastd: somebody else has started round 2 meanwhile, for rejected; yours was not started\n"
    )


def test_retry_of_a_job_that_goes_on_is_refused(run: Run) -> None:
    no = refusal("wrong_state", "job j1 is running: it has not ended", job="j1", state="running")
    with scripted_daemon([job_reply("running")], [no]) as daemon:
        assert run("retry", "j1", "--only", "failed", "--port", daemon.port).code == 5


@pytest.mark.parametrize(
    "wrong",
    [
        ("retry", "j1"),
        ("retry", "j1", "--only", "sent"),
        ("retry", "j1", "--only", "failed", "--not-after", "tomorrow"),
        ("send", "x", "--not-before", "2026-11-24"),
        ("send", "x", "--on-unknown", "maybe"),
        ("who", "j1", "--outcome", "lost"),
        ("who", "j1", "--json", "--format", "csv"),
        ("report",),
        ("drain", "--every", "0"),
        ("send", "x", "--flag", "99999999999999999999"),
        ("job", "\udcff"),
    ],
)
def test_wrong_usage_is_code_2_and_sends_nothing(run: Run, wrong: tuple[str, ...]) -> None:
    with scripted_daemon() as daemon:
        ran = run(*wrong, "--port", daemon.port)
    assert ran.code == 2
    assert daemon.received == []
    assert ran.err.startswith("Usage: ")


def drain_reply(state: str, remaining: int) -> dict[str, Any]:
    jobs = {"open": 3, "going": 2, "waiting": 1}
    return {"ok": True, "op": "drain", "state": state, "jobs": jobs, "remaining": remaining}


def test_drain_follows_until_it_is_drained(run: Run) -> None:
    lines = [drain_reply("draining", 900), drain_reply("draining", 900), drain_reply("drained", 300)]
    with scripted_daemon(lines, lines) as daemon:
        ran = run("drain", "--port", daemon.port)
        as_json = run("drain", "--every", "0.2", "--json", "--port", daemon.port)
    assert daemon.frames == [{"op": "drain", "every_s": 1.0}, {"op": "drain", "every_s": 0.2}]
    assert ran == Ran(
        0,
        "draining: 3 jobs open (2 going, 1 waiting), 900 recipients left\n"
        "drained: 3 jobs open (2 going, 1 waiting), 300 recipients left\n",
        "",
    )
    assert [json.loads(line) for line in as_json.out.splitlines()] == lines


def test_ctrl_c_ends_the_following_and_says_that_the_drain_goes_on(tmp_path: Path) -> None:
    leave = threading.Event()

    def lines() -> Iterator[dict[str, Any]]:
        yield drain_reply("draining", 9)
        leave.wait(30)

    with scripted_daemon(lines()) as daemon:
        command = [sys.executable, "-m", "broadcastd", "drain", "--port", str(daemon.port)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("draining: ")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        leave.set()
    assert process.returncode == 130
    assert said.strip() == "broadcastd: the daemon goes on draining; `broadcastd drain --off` ends that"


@pytest.mark.parametrize(
    ("option", "state", "frame"),
    [("--no-wait", "draining", {"op": "drain"}), ("--off", "accepting", {"op": "drain", "off": True})],
)
def test_drain_with_one_answer(run: Run, option: str, state: str, frame: dict[str, Any]) -> None:
    with scripted_daemon([drain_reply(state, 9)], [drain_reply(state, 9)]) as daemon:
        ran = run("drain", option, "--port", daemon.port)
        as_json = run("drain", option, "--json", "--port", daemon.port)
    assert daemon.frames == [frame, frame]
    assert ran.code == 0
    assert ran.out.startswith(f"{state}: 3 jobs open")
    assert json.loads(as_json.out) == drain_reply(state, 9)


@pytest.mark.parametrize(
    ("lines", "code", "says"),
    [
        ([drain_reply("draining", 9)], 3, "hung up before it was drained"),
        ([], 3, "hung up before it was drained"),
        ([drain_reply("draining", 9), drain_reply("accepting", 9)], 1, "somebody has ended the drain"),
        ([drain_reply("draining", 9), refusal("draining", "broadcastd is stopping")], 5, "is stopping"),
    ],
)
def test_a_drain_that_does_not_get_there(run: Run, lines: list[dict[str, Any]], code: int, says: str) -> None:
    with scripted_daemon(lines) as daemon:
        ran = run("drain", "--port", daemon.port)
    assert ran.code == code
    assert says in ran.err


def test_adopt(run: Run, typed: Callable[[str], None]) -> None:
    adopted = {"ok": True, "op": "adopt", "resumed": 3}
    with scripted_daemon([adopted], [adopted], [adopted]) as daemon:
        ran = run("ledger", "adopt", "--port", daemon.port)
        assert json.loads(run("ledger", "adopt", "--json", "--port", daemon.port).out) == adopted
        typed("y\n")
        asked = run("ledger", "adopt", "--port", daemon.port)
        typed("n\n")
        declined = run("ledger", "adopt", "--port", daemon.port)
    assert daemon.frames == [{"op": "adopt"}] * 3
    assert ran == Ran(0, "the ledger is adopted; jobs that go on: 3\n", "")
    assert "no other daemon works on the original" in asked.err
    assert (asked.code, declined.code) == (0, 1)


def test_adopt_without_a_daemon_says_what_to_do_first(run: Run) -> None:
    ran = run("ledger", "adopt", "--port", free_port())
    assert ran.code == 3
    assert "start the daemon first (`broadcastd run`)" in ran.err
    assert ran.err.count("\n") == 1


ACCEPTED = job_reply("accepted", repeat=False)


def test_send_with_times_and_policy(run: Run) -> None:
    with scripted_daemon([{**ACCEPTED, "waits_for": "its time, 2026-11-24 10:00:00 UTC"}]) as daemon:
        times = ("--not-before", "2026-11-24T18:00+08:00", "--not-after", "1795600800")
        ran = run("send", "求購", *times, "--on-unknown", "leave", "--port", daemon.port)
    assert daemon.frames == [
        {
            "content": "求購", "on_unknown": "leave", "not_before": "2026-11-24T18:00:00+08:00",
            "not_after": "2026-11-25T10:00:00+00:00",
        }
    ]  # fmt: skip
    assert "求購".encode() in daemon.received[0]
    assert ran.code == 0
    assert ran.out == (
        "job j1 accepted, waits for its time, 2026-11-24 10:00:00 UTC; `broadcastd watch j1` follows it\n"
    )


def test_send_sends_the_first_page_only_when_that_is_asked(run: Run) -> None:
    """A flag of 0 once went the way of what is not given: to everybody."""
    with scripted_daemon([ACCEPTED], [ACCEPTED]) as daemon:
        run("send", "x", "--flag", "0", "--port", daemon.port)
        ran = run("send", "x", "--to", "oA", "--to", "oB", "--port", daemon.port)
    assert daemon.frames == [{"content": "x", "flag": 0}, {"content": "x", "to": ["oA", "oB"]}]
    assert ran.out == "job j1 accepted; `broadcastd watch j1` follows it\n"


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("cancelled", 1), ("expired", 1)])
def test_watch_ends_with_the_job(run: Run, state: str, code: int) -> None:
    lines = [{**job_reply(now), "rate_per_s": 0, "eta_s": None} for now in ("running", "paused", state)]
    with scripted_daemon(lines, lines) as daemon:
        ran = run("watch", "j1", "--port", daemon.port)
        as_json = run("watch", "j1", "--json", "--port", daemon.port)
    assert (ran.code, as_json.code) == (code, code)
    assert ran.out.splitlines()[-1].startswith(f"{state}: 1,200 = 690 custom")
    assert [json.loads(line)["state"] for line in as_json.out.splitlines()] == ["running", "paused", state]


@pytest.mark.parametrize(
    ("accepts", "line"),
    [
        ("yes", ""),
        ("draining", "accepts   nothing new: it drains\n"),
        ("no", "accepts   nothing new: see ledger\n"),
    ],
)
def test_info_shows_what_stands_and_whether_it_accepts(run: Run, accepts: str, line: str) -> None:
    reply = {
        "ok": True, "op": "info", "version": "9", "pid": 1, "uptime_s": 5.0, "tasks": {"busy": 1, "all": 60},
        "in_flight": 2, "jobs": {"open": 4, "held": 1, "paused": 2, "scheduled": 0}, "ledger": "ok",
        "accepts": accepts, "accounts": {"default": {"wechat": "ok", "audience": "ok"}},
    }  # fmt: skip
    with scripted_daemon([reply]) as daemon:
        ran = run("info", "--port", daemon.port)
    assert f"jobs      4 open, 1 of them held, 2 paused\n{line}ledger    ok\n" in ran.out


@pytest.mark.parametrize(
    "command", [("report", "j1"), ("job", "j1"), ("who", "j1"), ("ledger", "adopt"), ("drain",), RETRY]
)
def test_the_token_of_the_settings_is_sent(run: Run, command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "broadcastd.toml").write_text('[server]\ntoken = "s3cret"\n')
    with scripted_daemon([refusal("unauthorized")]) as daemon:
        assert run(*command, "--port", daemon.port).code == 5
    assert daemon.frames[0]["token"] == "s3cret"
