"""The command `broadcastd-client`: one readable line, and an exit code that says what to do."""

import subprocess
import sys

import pytest
from client_scripted import answer, free_port, refuse, say, scripted

from broadcastd_client.cli import main


@pytest.mark.parametrize(
    ("play", "code", "told"),
    [
        (answer, 0, "broadcastd 9"),
        (refuse("unauthorized", False), 5, "unauthorized"),
        (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 3, "HTTP/1.1 400"),
    ],
)
def test_ping_on_the_command_line(play, code, told, capsys):
    with scripted(play) as server:
        assert main(["ping", "--port", str(server.port)]) == code
    output = "".join(capsys.readouterr())
    assert told in output
    assert output.count("\n") == 1


def test_ping_takes_the_token_from_the_environment(monkeypatch):
    monkeypatch.setenv("BROADCASTD_TOKEN", "s3cret")
    with scripted(answer) as server:
        assert main(["ping", "--port", str(server.port)]) == 0
    assert server.frames == [{"op": "ping", "token": "s3cret"}]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ping", "--port", "ninety"], 2),
        (["flush"], 2),
        (["flush", "--spool", "/proc/none"], 1),
        (["ping"], 3),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_an_exit_code(arguments, code, monkeypatch):
    monkeypatch.delenv("BROADCASTD_SPOOL", raising=False)
    if arguments == ["ping"]:
        arguments = ["ping", "--port", str(free_port())]
    line = [
        sys.executable,
        "-c",
        "import sys; from broadcastd_client.cli import main; sys.exit(main())",
        *arguments,
    ]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ended.stderr.startswith("broadcastd-client: ")
    assert ended.stderr.count("\n") == 1
