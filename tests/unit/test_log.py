import io
import json

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broadcastd import log
from broadcastd.log import escape_controls, escaped, without_secrets


def hidden(**event):
    return without_secrets(None, "", event)


@pytest.mark.parametrize("field", ["token", "password", "secret", "app_secret", "access_token", "url"])
def test_fields_named_like_a_secret_are_hidden(field):
    assert hidden(**{field: "s3cret", "job": "j1"}) == {field: "***", "job": "j1"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("POST https://h/send?access_token=ABC_d-1&x=2", "POST https://h/send?access_token=***&x=2"),
        ("mysql://site:pw@db/site is away", "mysql://site:***@db/site is away"),
        ("mailtos://me:pw%40x@smtp, then mysql://a:b@c", "mailtos://me:***@smtp, then mysql://a:***@c"),
        ("redis://:pw@host", "redis://:***@host"),
    ],
)
def test_tokens_and_passwords_within_urls_are_hidden(text, shown):
    assert hidden(error=text)["error"] == shown


@pytest.mark.parametrize("password", ["p@ss", "p&ss", "p:ss", "p/ss", "p'ss"])
def test_no_part_of_an_odd_password_is_left(password):
    assert "ss" not in hidden(error=f"mysql://u:{password}@db/base is gone")["error"].replace("base", "")


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8080/send answers 500", "12:30 at https://h/a:b", "a://b"]
)
def test_an_address_without_a_password_stays_readable(text):
    assert hidden(error=text)["error"] == text


UNSAFE = "\x00\x07\x08\x1b\x7f\x85\x9b\u2028\u202e\u2066\r\n\t"


@given(st.text(alphabet=st.characters() | st.sampled_from(UNSAFE)))
def test_nothing_that_steers_a_terminal_is_left(text):
    shown = escaped(text)
    assert not set(shown) & set(UNSAFE)
    assert all(char.isprintable() or char not in UNSAFE for char in shown)


def test_controls_are_spelt_and_the_rest_stays():
    assert escaped("\x1b[2J信息\u202e\n") == "\\x1b[2J信息\\u202e\\n"


def test_all_fields_are_escaped_and_a_traceback_keeps_its_lines():
    event = escape_controls(None, "", {"event": "x\x1b", "n": 5, "exception": "Traceback\n  \x1b[2J\n"})
    assert event == {"event": "x\\x1b", "n": 5, "exception": "Traceback\n  \\x1b[2J\n"}


@pytest.fixture
def lines(capsys):
    """What was written to stderr since `log.configure`."""
    yield lambda: capsys.readouterr().err
    structlog.reset_defaults()


def test_machines_get_one_json_object_a_line(lines):
    log.configure("info", terminal=False)
    structlog.get_logger().info(
        "frame_received", content="一\n二\x9b\u202e", token="s3cret", error="mysql://u:pw@h"
    )
    structlog.get_logger().debug("not_shown")
    (line,) = lines().splitlines()
    assert "\x9b" not in line
    assert "\u202e" not in line
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "frame_received", "level": "info", "content": "一\n二\x9b\u202e", "token": "***", "error": "mysql://u:***@h",
    }  # fmt: skip


def test_a_traceback_hides_passwords_too(lines):
    log.configure("info", terminal=False)
    try:
        raise OSError("cannot reach mysql://u:s3cret@h/site")
    except OSError:
        structlog.get_logger().exception("slice_failed", job="j1")
    written = lines()
    assert "OSError" in written
    assert "s3cret" not in written


def test_people_get_a_line_that_cannot_steer_their_terminal(lines):
    log.configure("info", terminal=True)
    structlog.get_logger().info("frame_received", content="\x1b[2Jgone", password="s3cret")
    written = lines()
    assert "\\x1b[2Jgone" in written
    assert "\x1b[2J" not in written
    assert "s3cret" not in written


class FullDisk:
    """A stderr that cannot be written, until there is room."""

    def __init__(self):
        self.full = False
        self.text = ""

    def write(self, text):
        if self.full:
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self):
        pass


def test_lines_that_cannot_be_written_are_counted_and_nothing_else_happens(monkeypatch):
    disk = FullDisk()
    monkeypatch.setattr("sys.stderr", disk)
    log.configure("info", terminal=False)
    try:
        logger = structlog.get_logger()
        logger.info("before")
        disk.full = True
        logger.warning("job_held")
        logger.error("lost")
        disk.full = False
        logger.info("after")
    finally:
        structlog.reset_defaults()
    events = [json.loads(line) for line in disk.text.splitlines() if line]
    assert [one["event"] for one in events] == ["before", "log_lines_lost", "after"]
    assert events[1]["lines"] == 2


def test_a_closed_stderr_is_no_trouble(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    logger = log.LineLogger()
    logger.msg("x")
    assert logger.lost == 1
