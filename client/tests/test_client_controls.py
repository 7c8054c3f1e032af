"""The operator's calls: what they send, what they repeat, and a list that is whole or says that it is not."""

import asyncio
import json
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from client_scripted import answer, free_port, hang_up, refuse, scripted, stay_silent, tell

from broadcastd_client import AsyncClient, BadReply, Client, NoAnswer, Refused, Unreachable

JOB = {
    "ok": True,
    "job": "j1",
    "state": "done",
    "round": {"no": 1, "only": None, "recipients": 3, "ended": 3},
}
AGAIN = {**JOB, "state": "running", "round": {"no": 2, "only": ["failed"], "recipients": 1, "ended": 0}}
CHINA = timezone(timedelta(hours=8))


def recipient(number):
    return {"ok": True, "id": number, "openid": f"o{number}", "outcome": "sent", "round": 1}


def line(value):
    return json.dumps(value).encode() + b"\n"


def last(count):
    return {"ok": True, "job": "j1", "listed": count}


def test_each_call_sends_its_op_and_its_fields_and_no_more():
    with scripted(answer) as server:
        client = Client(port=server.port, token="s3cret")
        for call in (client.pause, client.resume, client.cancel, client.report):
            assert call("j1")["ok"]
        client.rate()
        client.rate("custom", per_second=50, in_flight="auto")
        client.drain()
        client.drain(off=True)
        client.verify({"job": "j1", "hmac": "ab", "rate_per_s": 12.5})
    assert [{name: frame[name] for name in frame if name != "token"} for frame in server.frames] == [
        {"op": "pause", "job": "j1"},
        {"op": "resume", "job": "j1"},
        {"op": "cancel", "job": "j1"},
        {"op": "report", "job": "j1"},
        {"op": "rate"},
        {"op": "rate", "channel": "custom", "per_second": 50, "in_flight": "auto"},
        {"op": "drain"},
        {"op": "drain", "off": True},
        {"op": "verify", "report": {"job": "j1", "hmac": "ab", "rate_per_s": 12.5}},
    ]
    assert {frame["token"] for frame in server.frames} == {"s3cret"}


def test_a_refused_control_says_the_state():
    with scripted(refuse("wrong_state", False)) as server, pytest.raises(Refused) as caught:
        Client(port=server.port).pause("j1")
    assert (caught.value.code, caught.value.retry, server.connections) == ("wrong_state", False, 1)


def test_the_times_of_a_broadcast():
    with scripted(answer) as server:
        client = Client(port=server.port)
        client.broadcast("x", not_before=datetime(2026, 11, 24, 18, tzinfo=CHINA), on_unknown="leave")
        client.broadcast("x", not_before="2026-11-24T18:00:00+08:00", not_after=1795514400)
        client.broadcast("x", not_after=1795514400.5)
    times = [(f.get("not_before"), f.get("not_after"), f.get("on_unknown")) for f in server.frames]
    assert times == [
        ("2026-11-24T18:00:00+08:00", None, "leave"),
        ("2026-11-24T18:00:00+08:00", 1795514400, None),
        (None, 1795514400.5, None),
    ]


def test_a_spooled_broadcast_keeps_its_times(tmp_path):
    client = Client(port=free_port(), timeout_s=0.2, spool=tmp_path / "s")
    with pytest.raises(Unreachable):
        client.broadcast("x", key="order-1", not_after=datetime(2026, 11, 24, tzinfo=timezone.utc))
    with scripted(answer) as server:
        assert Client(port=server.port, spool=tmp_path / "s").flush()["sent"] == 1
    assert server.frames == [{"content": "x", "key": "order-1", "not_after": "2026-11-24T00:00:00+00:00"}]


def test_retry_names_the_round_after_the_present_one():
    with scripted(tell(JOB), tell(AGAIN)) as server:
        client = Client(port=server.port)
        assert client.retry("j1", ["failed", "unknown"], datetime(2026, 11, 24, tzinfo=CHINA)) == AGAIN
    assert server.frames == [
        {"op": "job", "job": "j1"},
        {
            "op": "retry",
            "job": "j1",
            "only": ["failed", "unknown"],
            "not_after": "2026-11-24T00:00:00+08:00",
            "round": 2,
        },
    ]


def test_a_retry_whose_answer_is_lost_asks_for_the_same_round_again():
    with scripted(hang_up, tell(JOB), hang_up, hang_up, tell(AGAIN)) as server:
        assert Client(port=server.port).retry("j1", "failed")["round"]["no"] == 2
    assert [frame["op"] for frame in server.frames] == ["job", "job", "retry", "retry", "retry"]
    assert {frame["round"] for frame in server.frames[2:]} == {2}
    assert {frame["only"] for frame in server.frames[2:]} == {"failed"}


def test_the_two_halves_of_a_retry_share_one_budget():
    with scripted(tell(JOB), stay_silent) as server:
        begin_s = time.monotonic()
        with pytest.raises(NoAnswer):
            Client(port=server.port, timeout_s=0.5).retry("j1", "failed")
        assert time.monotonic() - begin_s < 0.5 + 1
    assert [frame["op"] for frame in server.frames] == ["job", "retry"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("j1", "failed", datetime(2026, 1, 1)), ValueError),
        (("j1", "failed", float("nan")), ValueError),
        (("j\ud800", "failed"), ValueError),
        (("j1", {"failed"}), TypeError),
    ],
)
def test_wrong_arguments_of_retry_and_who_are_found_before_anything_is_sent(arguments, kind):
    with scripted(answer) as server:
        client = Client(port=server.port)
        with pytest.raises(kind):
            client.retry(*arguments)
        if len(arguments) == 2:
            with pytest.raises(kind):
                client.who(*arguments)
        assert server.connections == 0


def test_who_yields_the_recipients_and_swallows_the_last_line():
    with scripted(tell(recipient(1), recipient(2), last(2))) as server:
        people = Client(port=server.port, token="t").who("j1", "sent", "o1")
        assert list(people) == [recipient(1), recipient(2)]
    assert server.frames == [{"op": "who", "job": "j1", "outcome": ["sent"], "openid": "o1", "token": "t"}]


def test_who_sends_only_what_was_asked_and_may_find_nobody():
    with scripted(tell(last(0))) as server:
        client = Client(port=server.port)
        assert list(client.who("j1")) == []
        assert list(client.who("j1", ("failed", "none"))) == []
    assert server.frames == [
        {"op": "who", "job": "j1"},
        {"op": "who", "job": "j1", "outcome": ["failed", "none"]},
    ]


def test_who_yields_each_line_as_it_comes_and_waits_again_for_each():
    go_on = threading.Semaphore(0)

    def play(server, sock):
        server.read(sock)
        for number in range(4):
            sock.sendall(line(recipient(number)))
            go_on.acquire()
        sock.sendall(line(last(4)))

    with scripted(play) as server:
        people = Client(port=server.port, timeout_s=0.6).who("j1")
        begin_s = time.monotonic()
        for number in range(4):
            assert next(people) == recipient(number)
            threading.Timer(0.3, go_on.release).start()
        assert list(people) == []
        assert time.monotonic() - begin_s > 0.6  # longer than a single wait may be


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (b"", NoAnswer),
        (b'{"ok":true,"id":2', NoAnswer),
        (b"HTTP", BadReply),
        (line({"ok": False, "error": "draining", "message": "", "retry": True}), Refused),
    ],
)
def test_a_list_that_is_cut_never_looks_whole_and_is_not_begun_again(rest, kind):
    read = threading.Event()

    def play(server, sock):
        server.read(sock)
        sock.sendall(line(recipient(1)))
        read.wait()
        sock.sendall(rest)

    with scripted(play) as server:
        people = Client(port=server.port).who("j1")
        assert next(people) == recipient(1)
        read.set()
        with pytest.raises(kind):
            next(people)
        assert server.connections == 1


def test_a_list_that_stalls_fails_after_one_wait():
    def play(server, sock):
        server.read(sock)
        sock.sendall(line(recipient(1)))
        server.stopped.wait()

    with scripted(play) as server:
        people = Client(port=server.port, timeout_s=0.3).who("j1")
        assert next(people) == recipient(1)
        with pytest.raises(NoAnswer):
            next(people)


def test_who_is_asked_again_while_nothing_has_come():
    with scripted(hang_up, refuse("busy", True), tell(recipient(1), last(1))) as server:
        assert list(Client(port=server.port).who("j1")) == [recipient(1)]
        assert server.connections == 3


def test_a_loop_that_is_left_hangs_up():
    hung_up = threading.Event()

    def play(server, sock):
        server.read(sock)
        sock.sendall(line(recipient(1)))
        assert sock.recv(1) == b""
        hung_up.set()

    with scripted(play) as server:
        for one in Client(port=server.port).who("j1"):
            assert one == recipient(1)
            break
        assert hung_up.wait(10)


def test_a_long_list_waits_for_its_reader():
    stuck = threading.Event()

    def play(server, sock):
        server.read(sock)
        people = b"".join(line({**recipient(number), "openid": "o" * 65000}) for number in range(400))
        unsent = memoryview(people + line(last(400)))
        sock.settimeout(0.2)
        while unsent:
            try:
                unsent = unsent[sock.send(unsent) :]
            except TimeoutError:
                stuck.set()

    with scripted(play) as server:
        people = Client(port=server.port, timeout_s=10).who("j1")
        assert next(people)["id"] == 0
        assert stuck.wait(10)  # so what nobody has asked for is not in this process's memory
        assert sum(1 for _ in people) == 399


async def test_the_twin_has_the_same_calls():
    with scripted(tell(JOB), tell(AGAIN), answer) as server:
        client = AsyncClient(port=server.port)
        assert (await client.retry("j1", "failed"))["round"]["no"] == 2
        for call in (client.pause, client.resume, client.cancel, client.report):
            assert (await call("j1"))["ok"]
        assert (await client.drain())["ok"]
        assert (await client.verify({"hmac": "ab"}))["ok"]


async def test_the_twin_lists_without_standing_still():
    go_on = threading.Event()

    def play(server, sock):
        server.read(sock)
        sock.sendall(line(recipient(1)) + line(recipient(2)))
        go_on.wait(10)
        sock.sendall(line(recipient(3)) + line(last(3)))

    with scripted(play) as server:
        found = []
        async for one in AsyncClient(port=server.port, timeout_s=10).who("j1"):
            found.append(one["id"])
            if one["id"] == 2:
                asyncio.get_running_loop().call_later(0.05, go_on.set)  # only a loop that runs gets there
    assert found == [1, 2, 3]


async def test_a_loop_of_the_twin_that_is_left_hangs_up():
    hung_up = threading.Event()

    def play(server, sock):
        server.read(sock)
        sock.sendall(line(recipient(1)))
        assert sock.recv(1) == b""
        hung_up.set()

    with scripted(play) as server:
        people = AsyncClient(port=server.port).who("j1")
        assert await people.__anext__() == recipient(1)
        await people.aclose()
        assert await asyncio.to_thread(hung_up.wait, 10)


async def test_the_twin_fails_in_the_loop():
    with scripted(tell(recipient(1))) as server:
        people = AsyncClient(port=server.port).who("j1")
        assert await people.__anext__() == recipient(1)
        with pytest.raises(NoAnswer):
            await people.__anext__()
    with pytest.raises(Unreachable):
        await AsyncClient(port=free_port(), timeout_s=0.2).who("j1").__anext__()
