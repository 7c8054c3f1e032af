"""`who` and `report` against a scripted daemon: whole or not, genuine or not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bed.scripted import Ran, Run, ScriptedDaemon, refusal, scripted_daemon

HEADER = "id,openid,outcome,channel,errcode,at,round,delivery\n"
LAST_OF_TWO = {"ok": True, "job": "j1", "listed": 2}


def person(number: int, **more: Any) -> dict[str, Any]:
    return {
        "ok": True, "id": number, "openid": f"o{number}", "outcome": "sent", "channel": "custom",
        "errcode": 0, "at": "2026-11-24T10:00:00.000+00:00", "round": 1, **more,
    }  # fmt: skip


def as_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def test_who_as_csv(run: Run) -> None:
    with scripted_daemon([person(1), person(2, openid="=1+1\x1b"), LAST_OF_TWO]) as daemon:
        ran = run("who", "j1", "--port", daemon.port)
    assert daemon.received == [b'{"op":"who","job":"j1"}\n']
    rest = "custom,0,2026-11-24T10:00:00.000+00:00,1,\n"
    assert ran == Ran(0, f"{HEADER}1,o1,sent,{rest}2,'=1+1\\x1b,sent,{rest}", "")


@pytest.mark.parametrize("form", [("--json",), ("--format", "jsonl"), ("--json", "--format", "jsonl")])
def test_who_as_json_lines(run: Run, form: tuple[str, ...]) -> None:
    with scripted_daemon([person(1), person(2), LAST_OF_TWO]) as daemon:
        ran = run("who", "j1", *form, "--port", daemon.port)
    assert ran.code == 0
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [{"ok": True, **line} for line in lines] == [person(1), person(2)]


def test_who_asks_for_some(run: Run) -> None:
    with scripted_daemon([{**LAST_OF_TWO, "listed": 0}]) as daemon:
        only = ("--outcome", "failed", "--outcome", "none", "--outcome", "failed", "--openid", "oA")
        ran = run("who", "j1", *only, "--port", daemon.port)
    assert daemon.frames == [{"op": "who", "job": "j1", "outcome": ["failed", "none"], "openid": "oA"}]
    assert ran == Ran(0, HEADER, "")


STOPPING = refusal("draining", "broadcastd is stopping")


@pytest.mark.parametrize(
    ("rest", "code", "says"),
    [
        (b"", 3, "cut after 1 recipients, and not whole: the daemon hung up"),
        (b'{"ok":true,"id":2', 3, "cut after 1 recipients, and not whole: "),
        (as_line(LAST_OF_TWO), 3, "not whole: 2 recipients were listed, 1 have come"),
        (as_line(STOPPING), 5, "cut after 1 recipients, and not whole\nbroadcastd: draining: "),
    ],
)
def test_a_list_that_is_cut_says_so_and_fails(run: Run, rest: bytes, code: int, says: str) -> None:
    with scripted_daemon(as_line(person(1)) + rest) as daemon:
        ran = run("who", "j1", "--port", daemon.port)
    assert ran.code == code
    assert says in ran.err
    assert ran.out.startswith(f"{HEADER}1,o1,")


@pytest.mark.parametrize(
    ("answer", "code"), [(b"", 3), (b"HTTP/1.1 400\r\n", 3), (as_line(refusal("unknown_job")), 5)]
)
def test_a_list_that_does_not_begin_prints_nothing(run: Run, answer: bytes, code: int) -> None:
    with scripted_daemon(answer) as daemon:
        ran = run("who", "j1", "--port", daemon.port)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.count("\n") == 1


def shell(daemon: ScriptedDaemon, folder: Path, command: str, **environment: str) -> Any:
    """A pipeline, with `broadcastd` for the command; its status is that of `broadcastd`."""
    python = f"{sys.executable} -m broadcastd"
    line = re.sub(r"(?<![/\w])broadcastd(?![/\w])", python, f"set -o pipefail; {command}")
    line = line.replace("PORT", str(daemon.port))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, cwd=folder, env=env, check=False
    )


def test_a_reader_who_has_seen_enough_ends_it_in_peace(tmp_path: Path) -> None:
    many = b"".join(as_line(person(number)) for number in range(20_000))
    with scripted_daemon(many + as_line({**LAST_OF_TWO, "listed": 20_000})) as daemon:
        done = shell(daemon, tmp_path, "broadcastd who j1 --port PORT | head -2")
    assert done.stdout.count("\n") == 2
    assert (done.returncode, done.stderr) == (0, "")


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def test_a_long_list_takes_no_memory(tmp_path: Path) -> None:
    """30 MB go through a process that may not grow by a third of it."""
    (tmp_path / "measured.py").write_text(MEASURED)
    command = f"{sys.executable} measured.py broadcastd who j1 --port PORT | wc -l"
    wide = b"".join(as_line(person(number, openid="o" * 30_000)) for number in range(1000))
    nobody, thousand = (as_line({"ok": True, "listed": count}) for count in (0, 1000))
    with scripted_daemon(nobody, wide + thousand) as daemon:
        little, much = shell(daemon, tmp_path, command), shell(daemon, tmp_path, command)
    assert (little.stdout.strip(), much.stdout.strip()) == ("1", "1001")
    assert int(much.stderr) - int(little.stderr) < 10_000  # kB


def test_a_terminal_of_another_encoding_gets_valid_json(tmp_path: Path) -> None:
    with scripted_daemon([person(1, openid="信息"), {**LAST_OF_TWO, "listed": 1}]) as daemon:
        done = shell(daemon, tmp_path, "broadcastd who j1 --json --port PORT", PYTHONIOENCODING="latin-1")
    assert json.loads(done.stdout)["openid"] == "信息"
    assert done.returncode == 0


REPORT = {"job": "j1", "state": "done", "final": True, "recipients": 1200, "rate_per_s": 1e22, "hmac": "5ea1"}
REPLY = {"ok": True, "report": REPORT}


def test_report_for_people_and_for_machines(run: Run) -> None:
    with scripted_daemon([REPLY], [REPLY]) as daemon:
        ran = run("report", "j1", "--port", daemon.port)
        as_json = run("report", "j1", "--json", "--port", daemon.port)
    assert daemon.frames == [{"op": "report", "job": "j1"}] * 2
    assert ran.code == 0
    assert "recipients  1,200\n" in ran.out
    assert "5ea1" in ran.out
    assert json.loads(as_json.out) == REPLY


@pytest.mark.parametrize("given", [REPLY, REPORT])
@pytest.mark.parametrize(
    ("genuine", "code", "says"),
    [(True, 0, "genuine: the report of job j1, as this daemon made it\n"), (False, 1, "NOT genuine: ")],
)
def test_verify_sends_the_report_as_it_was(
    run: Run, tmp_path: Path, given: Any, genuine: bool, code: int, says: str
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(given))
    reply = {"ok": True, "genuine": genuine, "job": "j1"}
    with scripted_daemon([reply], [reply]) as daemon:
        ran = run("report", "--verify", "report.json", "--port", daemon.port)
        as_json = run("report", "--verify", "report.json", "--json", "--port", daemon.port)
    assert daemon.frames == [{"op": "verify", "report": REPORT}] * 2
    assert (ran.code, as_json.code) == (code, code)
    assert ran.out.startswith(says)
    assert json.loads(as_json.out) == reply


def test_what_report_prints_can_be_piped_into_its_check(tmp_path: Path) -> None:
    with scripted_daemon([REPLY], [{"ok": True, "genuine": True, "job": "j1"}]) as daemon:
        pipe = "broadcastd report j1 --json --port PORT | broadcastd report --verify - --port PORT"
        done = shell(daemon, tmp_path, pipe)
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.frames[1] == {"op": "verify", "report": REPORT}


DEEP = '{"a":' * 500 + "1" + "}" * 500


@pytest.mark.parametrize("text", ["", "{", "[]", "17", '{"report":17}', '{"job":"j1"}', "[" * 3000, DEEP])
def test_what_is_no_report_is_code_2_and_is_not_sent(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with scripted_daemon() as daemon:
        ran = run("report", "--verify", "report.json", "--port", daemon.port)
    assert ran.code == 2
    assert ran.err.startswith("Usage: ")
    assert daemon.received == []


def test_a_file_that_is_missing_and_both_at_once_are_wrong_usage(run: Run) -> None:
    with scripted_daemon() as daemon:
        assert run("report", "--verify", "missing.json", "--port", daemon.port).code == 2
        assert run("report", "j1", "--verify", "missing.json", "--port", daemon.port).code == 2
    assert daemon.received == []
