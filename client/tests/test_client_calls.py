"""What a call promises: one budget, one key, and the truth about what may have been accepted."""

import contextlib
import pickle
import socket
import threading
import time
from datetime import date, datetime

import pytest
from client_scripted import answer, dribble, free_port, hang_up, refuse, say, scripted, stay_silent
from hypothesis import given
from hypothesis import strategies as st

import broadcastd_client
from broadcastd_client import BadReply, BroadcastError, Client, NoAnswer, Refused, Unreachable, wire

TEXT = "求購 100 噸玉米,電話見下 😀\n第二行"


def failure_of(client, *arguments, **fields):
    with pytest.raises(BroadcastError) as caught:
        client.broadcast(*(arguments or (TEXT,)), **fields)
    return caught.value


def test_broadcast_sends_the_fields_given_as_raw_utf8_and_returns_the_reply():
    with scripted(answer) as server:
        client = Client(port=server.port, token="s3cret")
        reply = client.broadcast(TEXT, phone="110", key="order-17", ref="post-9", flag=2, account="b")
    assert reply["job"] == "j-order-17"
    assert server.frames == [
        {
            "content": TEXT,
            "phone": "110",
            "ref": "post-9",
            "flag": 2,
            "account": "b",
            "key": "order-17",
            "token": "s3cret",
        }
    ]
    assert "求購".encode() in server.lines[0]
    assert server.lines[0].count(b"\n") == 1
    assert "s3cret" not in repr(client)


def test_ping_job_and_call_send_their_op_and_nothing_else():
    with scripted(answer) as server:
        client = Client(port=server.port)
        assert client.ping()["version"] == "9"
        assert client.job("j1")["op"] == "job"
        assert client.call("cancel", job="j1", reason="typo")["seen"]["reason"] == "typo"
    assert server.frames == [
        {"op": "ping"},
        {"op": "job", "job": "j1"},
        {"op": "cancel", "job": "j1", "reason": "typo"},
    ]


def test_module_level_broadcast_takes_settings_from_arguments_then_environment(monkeypatch):
    with scripted(answer) as server:
        monkeypatch.setenv("BROADCASTD_PORT", str(server.port))
        monkeypatch.setenv("BROADCASTD_HOST", "127.0.0.1")
        monkeypatch.setenv("BROADCASTD_TOKEN", "of the environment")
        broadcastd_client.broadcast(TEXT, key="a")
        broadcastd_client.broadcast(TEXT, key="b", token="of the call", ref=7)
    assert [(f["token"], f.get("ref")) for f in server.frames] == [
        ("of the environment", None),
        ("of the call", 7),
    ]
    monkeypatch.setenv("BROADCASTD_PORT", "ninety")
    with pytest.raises(ValueError, match="ninety"):
        broadcastd_client.broadcast(TEXT)


def test_a_key_is_made_once_and_is_the_same_on_every_reconnect():
    with scripted(hang_up, refuse("not_durable", True), hang_up, answer) as server:
        Client(port=server.port).broadcast(TEXT)
    keys = {frame["key"] for frame in server.frames}
    assert len(server.frames) == 4
    assert len(keys) == 1
    assert keys.pop().startswith("c-")


def test_two_broadcasts_without_a_key_have_different_ones():
    with scripted(answer) as server:
        Client(port=server.port).broadcast(TEXT)
        Client(port=server.port).broadcast(TEXT)
    assert len({frame["key"] for frame in server.frames}) == 2


@pytest.mark.parametrize("fields", [{"to": ["o1"]}, {"dry_run": True}, {"to": ["o1"], "dry_run": True}])
def test_test_sends_and_dry_runs_never_have_a_key(fields, tmp_path):
    with scripted(answer) as server:
        Client(port=server.port).broadcast(TEXT, key="order-17", **fields)
    assert "key" not in server.frames[0]
    heard = []
    error = failure_of(
        Client(port=free_port(), timeout_s=0.2, spool=tmp_path / "s", alarm=heard.append), **fields
    )
    assert (error.key, error.spooled, heard) == (None, False, [])
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("play", [hang_up, refuse("busy", True)])
def test_a_test_send_that_was_written_is_never_repeated(play):
    with scripted(play, answer) as server:
        failure_of(Client(port=server.port), TEXT, to=["o1"])
        assert server.connections == 1


def test_a_test_send_that_was_not_written_is_tried_again():
    port = free_port()
    outcome = []
    caller = threading.Thread(
        target=lambda: outcome.append(Client(port=port, timeout_s=30).broadcast(TEXT, to=["o1"]))
    )
    caller.start()
    with socket.create_server(("127.0.0.1", port)) as listener:
        sock, _ = listener.accept()
        with sock:
            sock.makefile("rb").readline()
            sock.sendall(b'{"ok":true,"job":"j1"}\n')
    caller.join()
    assert outcome[0]["job"] == "j1"


REPEATED = ("ping", "info", "job", "jobs", "pause", "resume", "cancel", "drain", "report", "verify")


@pytest.mark.parametrize(("op", "attempts"), [*((op, 2) for op in REPEATED), ("retry", 1), ("adopt", 1)])
def test_only_ops_that_may_come_again_are_repeated_after_a_lost_answer(op, attempts):
    with scripted(hang_up, answer) as server:
        with contextlib.suppress(NoAnswer):
            Client(port=server.port).call(op)
        assert server.connections == attempts


TRUTH = [
    # plays, class of the failure, maybe accepted
    ([refuse("conflict", False)], Refused, False),
    ([refuse("busy", True)], Refused, False),
    ([hang_up], NoAnswer, True),
    ([stay_silent], NoAnswer, True),
    ([dribble], NoAnswer, True),
    ([say(b'{"ok":true,"job":"j1"')], NoAnswer, True),
    ([say(b"HTTP/1.1 400 Bad Request\r\n\r\n")], BadReply, True),
    ([say(b'{"ok":true}\n')], BadReply, True),
    ([say(b'{"ok":"yes","job":"j"}\n')], BadReply, True),
    ([say(b"[" * 5000 + b"\n")], BadReply, True),
    ([say(b"{" + b" " * (wire.MAX_REPLY_BYTES + 10) + b"\n")], BadReply, True),
    ([hang_up, refuse("draining", True)], Refused, True),
    ([hang_up, refuse("conflict", False)], Refused, True),
]


@pytest.mark.parametrize(("plays", "kind", "maybe"), TRUTH)
def test_a_failure_says_whether_the_job_may_have_been_accepted(plays, kind, maybe):
    with scripted(*plays) as server:
        error = failure_of(Client(port=server.port, timeout_s=2.0), TEXT, key="order-17")
    assert type(error) is kind
    assert (error.maybe_accepted, error.spooled, error.key) == (maybe, False, "order-17")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.maybe_accepted) == (str(error), maybe)


def test_unreachable_is_not_accepted_for_certain():
    error = failure_of(Client(port=free_port(), timeout_s=0.2))
    assert type(error) is Unreachable
    assert not error.maybe_accepted
    assert error.key.startswith("c-")


def test_maybe_accepted_stays_true_when_the_last_attempt_was_unreachable():
    def last_words(server, sock):
        server.listener.shutdown(socket.SHUT_RDWR)  # nobody listens from now on
        hang_up(server, sock)

    with scripted(last_words) as server:
        error = failure_of(Client(port=server.port, timeout_s=0.5))
    assert type(error) is Unreachable
    assert error.maybe_accepted


def test_a_refusal_carries_code_message_retry_and_reply():
    with scripted(refuse("conflict", False)) as server:
        error = failure_of(Client(port=server.port))
        assert server.connections == 1
    assert (error.code, error.message, error.retry, error.final) == (
        "conflict",
        "it is conflict",
        False,
        True,
    )
    assert error.reply["ok"] is False
    assert "conflict: it is conflict" in str(error)


def test_a_bad_reply_is_not_tried_again_and_shows_what_answered():
    with scripted(say(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        with pytest.raises(BadReply, match="HTTP/1"):
            Client(port=server.port).ping()
        assert server.connections == 1


@contextlib.contextmanager
def never_accepting():
    """A listener with a full backlog: a further connection is not completed."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield type("Full", (), {"port": listener.getsockname()[1]})


@pytest.mark.parametrize("server", [stay_silent, dribble, hang_up, refuse("busy", True), None])
def test_the_budget_holds_for_the_whole_call(server):
    with scripted(server) if server else never_accepting() as place:
        client = Client(port=place.port, timeout_s=0.5)
        begin_s = time.monotonic()
        error = failure_of(client)
        took_s = time.monotonic() - begin_s
    assert took_s < 0.5 + 1  # the slack is the machine's
    assert (type(error) is Unreachable) == (server is None)


def test_the_budget_holds_when_a_large_frame_is_never_read():
    def never_read(server, sock):
        server.stopped.wait()

    with scripted(never_read) as server:
        begin_s = time.monotonic()
        error = failure_of(Client(port=server.port, timeout_s=0.5), "x" * 20_000_000)
        assert time.monotonic() - begin_s < 2
    assert error.maybe_accepted


def test_the_budget_holds_while_a_name_is_looked_up(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait() and [])
    begin_s = time.monotonic()
    error = failure_of(Client(host="slow.example", timeout_s=0.3))
    release.set()
    assert type(error) is Unreachable
    assert time.monotonic() - begin_s < 1


def test_a_name_with_a_dead_first_address_is_reached_at_the_second(monkeypatch):
    with scripted(answer) as server:
        dead, alive = ("127.0.0.1", free_port()), ("127.0.0.1", server.port)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (dead, alive)]
        real, asked = socket.getaddrinfo, []

        def look_up(host, *rest, **more):
            asked.append(host)
            return found if host == "two.example" else real(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert Client(host="two.example", port=server.port).broadcast(TEXT)["ok"]
    assert asked[0] == "two.example"
    assert server.connections == 1


@pytest.mark.parametrize("host", ["a..b", "no-such-host.invalid", "\ud800"])
def test_an_impossible_name_is_unreachable(host):
    assert type(failure_of(Client(host=host, timeout_s=0.3))) is Unreachable


def test_the_answer_to_a_frame_that_is_refused_before_its_end_is_read():
    def too_large(server, sock):
        sock.recv(1000)
        sock.sendall(b'{"ok":false,"error":"frame_too_large","message":"65536 bytes","retry":false}\n')

    with scripted(too_large) as server:
        error = failure_of(Client(port=server.port), "字" * 100_000)
    assert type(error) is Refused


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"content": None}, TypeError),
        ({"content": b"bytes"}, TypeError),
        ({"content": "lone \ud800"}, ValueError),
        ({"phone": 110}, TypeError),
        ({"key": 17}, TypeError),
        ({"key": ""}, ValueError),
        ({"to": []}, ValueError),
        ({"to": "o1"}, TypeError),
        ({"to": [1]}, ValueError),
        ({"flag": True}, TypeError),
        ({"dry_run": 1}, TypeError),
        ({"dryrun": True}, TypeError),
        ({"data": {"a": float("nan")}}, ValueError),
        ({"data": {"a": object()}}, TypeError),
        ({"not_before": datetime(2026, 1, 1)}, ValueError),
        ({"not_after": datetime(2026, 1, 1)}, ValueError),
        ({"not_after": float("inf")}, ValueError),
        ({"not_after": True}, TypeError),
        ({"not_after": date(2026, 1, 1)}, TypeError),
        ({"on_unknown": True}, TypeError),
        ({"notafter": 1}, TypeError),
    ],
)
def test_wrong_arguments_are_found_before_anything_is_sent(fields, kind, tmp_path):
    with scripted(answer) as server:
        with pytest.raises(kind):
            Client(port=server.port, spool=tmp_path / "s").broadcast(**{"content": TEXT, **fields})
        assert server.connections == 0
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "settings",
    [{"port": 0}, {"port": "9090"}, {"port": 70000}, {"timeout_s": 0}, {"timeout_s": float("nan")}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="port"):
        Client(**settings)


@given(
    st.binary(max_size=200), st.sampled_from([{"op": "ping"}, {"content": "a", "key": "k"}, {"content": "a"}])
)
def test_no_bytes_at_all_make_a_parser_fail_otherwise(answered, frame):
    with contextlib.suppress(Refused, BadReply):
        assert wire.parse_reply(answered, frame)["ok"] is True


@given(st.text().filter(lambda t: t.isprintable() or "\n" in t), st.text(min_size=1))
def test_every_frame_is_one_line_that_reads_back(content, key):
    line = wire.encode({"content": content, "key": key})
    assert line.count(b"\n") == 1
    assert wire.json.loads(line) == {"content": content, "key": key}
