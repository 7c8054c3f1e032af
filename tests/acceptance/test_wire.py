"""The port as its callers use and abuse it. One daemon for all of these."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient

FOLLOWERS = 40


@pytest.fixture(scope="module")
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        yield endpoint


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, endpoint: CountingEndpoint) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("wire")
    site = sqlite_site(folder / "site.db", FOLLOWERS)
    limits = "frame_timeout_s = 2\nmax_frame_bytes = 4096\nmax_connections = 40"
    with daemon_process(folder, endpoint.url, site, server=limits) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[RawClient]:
    with RawClient(daemon.port) as client:
        yield client


def _received(endpoint: CountingEndpoint, text: str) -> list[str]:
    return [str(body["touser"]) for body in endpoint.bodies if text in json.dumps(body, ensure_ascii=False)]


def _accepted_with(daemon: DaemonProcess, content: str) -> dict[str, Any] | None:
    jobs = daemon.call({"op": "jobs", "limit": 1000})["jobs"]
    return next((job for job in jobs if job["content"] == content), None)


def test_the_old_client_closes_without_reading(daemon: DaemonProcess, endpoint: CountingEndpoint) -> None:
    with RawClient(daemon.port) as old:
        old.send('{"content":"old bare frame 求購","flag":"0","phone":"110"}')
    job = eventually(lambda: _accepted_with(daemon, "old bare frame 求購"), what="the job is accepted")
    assert job["flag"] == 0
    daemon.wait_done(job["job"])
    assert sorted(_received(endpoint, "old bare frame")) == [openid(n) for n in range(1, FOLLOWERS + 1)]


def test_a_whole_object_and_silence_is_a_frame(client: RawClient) -> None:
    client.send('{"content":"left open","phone":"110"')
    client.send("}")
    assert client.reply()["state"] == "accepted"
    client.send('{"op":"ping"}')
    assert client.reply()["op"] == "ping"


def test_eof_ends_a_frame(client: RawClient) -> None:
    client.send('{"op":"ping"}')
    client.end()
    assert client.reply()["ok"]
    assert client.hung_up()


def test_pipelined_frames_are_answered_in_order(client: RawClient) -> None:
    frames = [{"op": "ping"}, {"op": "nonsense"}, {"content": "piped", "key": "p1"}, {"op": "jobs"}]
    client.send("".join(json.dumps(frame) + "\r\n\n" for frame in frames))
    replies = [client.reply() for _ in frames]
    assert replies[0]["op"] == "ping"
    assert replies[1]["error"] == "unknown_op"
    assert replies[2]["key"] == "p1"
    assert replies[3]["jobs"]


@pytest.mark.parametrize(
    ("frame", "error", "says"),
    [
        ('{"content":', "bad_json", "JSON"),
        ('{"content":"x"} trailing', "bad_json", "JSON"),
        ('{"content":"\xff"}'.encode("latin-1"), "bad_json", "JSON"),
        ("{" * 2000, "bad_json", "JSON"),
        ('{"content":17}', "bad_frame", "content"),
        ('{"phone":"110"}', "bad_frame", "content is missing"),
        ('{"content":"x","flag":"zero"}', "bad_frame", "flag"),
        ('{"content":"x","flag":-1}', "bad_frame", "flag"),
        ('{"content":"x","flag":1.5}', "bad_frame", "flag"),
        ('{"content":"x","key":""}', "bad_frame", "key"),
        ('{"content":"x","to":[]}', "bad_frame", "to"),
        ('{"content":"x","to":"openid"}', "bad_frame", "to"),
        ('{"content":"x","colour":"red"}', "bad_frame", "unknown field 'colour'; accepted:"),
        ('{"content":"x","channels":["pigeon"]}', "bad_frame", "accepted: custom, template"),
        ('{"content":"x","channels":["custom"],"data":{"k":"v"}}', "bad_frame", "no channel of custom takes"),
        ('{"content":"x","account":"other"}', "unknown_account", "accepted: default"),
        ('{"content":"  "}', "bad_content", "empty"),
        ('{"op":7}', "unknown_op", "accepted:"),
        ('{"op":"job"}', "bad_frame", "job is missing"),
        ('{"op":"job","job":"nobody"}', "unknown_job", "nobody"),
        ('{"op":"tail","job":"j","every_s":0}', "bad_frame", "every_s"),
    ],
)
def test_a_bad_frame_gets_a_clear_error_and_the_connection_stays(
    client: RawClient, frame: str | bytes, error: str, says: str
) -> None:
    client.send(frame)
    client.send("\n")
    reply = client.reply()
    assert reply["ok"] is False
    assert reply["error"] == error
    assert reply["retry"] is False
    assert says in reply["message"]
    assert client.ask({"op": "ping"})["ok"]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1:9090\r\n\r\n" + b'{"content":"from a web page"}\n',
            "bad_frame",
        ),
        (b'["content"]\n{"content":"from a web page"}\n', "bad_frame"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "bad_frame"),
        (b'{"content":"' + b"x" * 5000 + b'"}\n{"content":"from a web page"}\n', "frame_too_large"),
    ],
)
def test_what_is_no_frame_closes_the_connection(
    daemon: DaemonProcess, client: RawClient, sent: bytes, error: str
) -> None:
    client.send(sent)
    assert client.reply()["error"] == error
    assert client.hung_up()
    assert _accepted_with(daemon, "from a web page") is None


def test_a_slow_frame_is_cut_off(client: RawClient) -> None:
    client.send('{"content":"never ')
    reply = client.reply()
    assert reply["error"] == "too_slow"
    assert reply["retry"] is True
    assert client.hung_up()


def test_one_connection_too_many_is_told_so(daemon: DaemonProcess) -> None:
    crowd = [RawClient(daemon.port) for _ in range(40)]
    try:
        for one in crowd:
            assert one.ask({"op": "ping"})["ok"]
        with RawClient(daemon.port) as late:
            reply = late.reply()
            assert reply["error"] == "busy"
            assert reply["retry"] is True
            assert late.hung_up()
    finally:
        for one in crowd:
            one.close()
    eventually(lambda: _answers(daemon), what="there is room again")


def _answers(daemon: DaemonProcess) -> bool:
    with RawClient(daemon.port) as client:
        try:
            return bool(client.ask({"op": "ping"})["ok"])
        except (AssertionError, ConnectionError):
            return False


def test_sixteen_calls_with_one_key_at_once_are_one_job(
    daemon: DaemonProcess, endpoint: CountingEndpoint
) -> None:
    frame = {"content": "sixteen times", "key": "order-16", "ref": "post-16"}
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: daemon.call(frame), range(16)))
    assert len({reply["job"] for reply in replies}) == 1
    assert sorted(reply["repeat"] for reply in replies) == [False] + [True] * 15
    daemon.wait_done(replies[0]["job"])
    again = daemon.call(frame)
    assert again["repeat"] is True
    assert again["books"]["sent"] == FOLLOWERS
    assert again["ref"] == "post-16"
    assert len(_received(endpoint, "sixteen times")) == FOLLOWERS


def test_other_content_under_a_key_is_a_conflict(daemon: DaemonProcess) -> None:
    first = daemon.call({"content": "one thing", "key": "order-c"})
    for other in ({"content": "another"}, {"phone": "1"}, {"channels": ["template"]}, {"data": {"k": "v"}}):
        reply = daemon.call({"content": "one thing", "key": "order-c", **other})
        assert reply["error"] == "conflict"
        assert reply["job"] == first["job"]
        assert reply["retry"] is False
    assert daemon.call({"content": "one thing", "key": "order-c", "ref": "later"})["repeat"] is True


def test_a_loop_over_flags_with_one_key_is_a_job_each(daemon: DaemonProcess) -> None:
    replies = [daemon.call({"content": "loop", "key": "order-l", "flag": flag}) for flag in (0, "1", 2)]
    assert len({reply["job"] for reply in replies}) == 3
    assert [reply["flag"] for reply in replies] == [0, 1, 2]
    assert daemon.wait_done(replies[0]["job"])["books"]["recipients"] == FOLLOWERS
    # Beyond the end there is nobody, and nothing is wrong.
    assert daemon.wait_done(replies[1]["job"])["books"]["recipients"] == 0
    assert daemon.call({"op": "jobs", "open": True})["jobs"] == []


def test_a_frame_without_a_key_repeated_is_one_job(daemon: DaemonProcess) -> None:
    frame = {"content": "no key", "phone": "110"}
    first, second = daemon.call(frame), daemon.call(frame)
    assert (first["repeat"], second["repeat"]) == (False, True)
    assert first["job"] == second["job"]
    assert daemon.call({**frame, "phone": "120"})["repeat"] is False


def test_a_test_send_goes_to_its_openids_only_and_takes_no_key(
    daemon: DaemonProcess, endpoint: CountingEndpoint
) -> None:
    frame = {"content": "just a test", "to": ["oA", "oB"], "key": "order-t"}
    first, second = daemon.call(frame), daemon.call(frame)
    assert first["job"] != second["job"]
    assert first["test"] is True
    for reply in (first, second):
        assert daemon.wait_done(reply["job"])["books"]["sent"] == 2
    assert sorted(_received(endpoint, "just a test")) == ["oA", "oA", "oB", "oB"]
    real = daemon.call({"content": "the real thing", "key": "order-t"})
    assert real["repeat"] is False


def test_a_dry_run_counts_and_renders_and_sends_nothing(
    daemon: DaemonProcess, endpoint: CountingEndpoint
) -> None:
    reply = daemon.call({"content": "only looking", "dry_run": True, "key": "order-d"})
    assert reply["recipients"] == FOLLOWERS
    assert reply["slices"] == 5
    assert "only looking" in reply["messages"]["custom"]
    assert _accepted_with(daemon, "only looking") is None
    assert not _received(endpoint, "only looking")
    assert daemon.call({"content": "now", "key": "order-d"})["repeat"] is False


def test_content_that_can_never_be_sent_is_refused_and_logged(daemon: DaemonProcess) -> None:
    reply = daemon.call({"content": "長" * 700, "key": "order-long"})
    assert reply["error"] == "bad_content"
    assert "2048" in reply["message"]
    logged = next(line for line in daemon.events("frame_refused") if line["key"] == "order-long")
    assert logged["content"].startswith("長長長")


def test_text_arrives_as_it_was_written(daemon: DaemonProcess, endpoint: CountingEndpoint) -> None:
    content = '求購 "引號" \\ {braces} <a href="#">x</a> 😀'
    job = daemon.call({"content": content, "to": ["oC"]})["job"]
    daemon.wait_done(job)
    (body,) = [body for body in endpoint.bodies if body["touser"] == "oC"]
    text = body["text"]
    assert isinstance(text, dict)
    assert str(text["content"]).startswith(content + " 點擊下方")


@pytest.mark.timeout(1800)
def test_garbage_of_every_kind_does_not_disturb_a_job(tmp_path: Path, long_run: bool) -> None:
    chance = random.Random(17)
    site = sqlite_site(tmp_path / "site.db", 10_000)
    with counting_endpoint() as endpoint, daemon_process(tmp_path, endpoint.url, site) as daemon:
        job = daemon.call({"content": "undisturbed", "key": "g"})["job"]
        for _ in range(20_000 if long_run else 300):
            _throw(daemon.port, chance)
        books = daemon.wait_done(job)["books"]
        assert books["sent"] == 10_000
        assert daemon.call({"op": "jobs"})["jobs"][0]["job"] == job
        assert not daemon.events("frame_failed")
    assert len(endpoint.received) == 10_000
    assert set(endpoint.received.values()) == {1}


def _throw(port: int, chance: random.Random) -> None:
    """One piece of garbage: no valid broadcast is among them."""
    kinds = [
        lambda: chance.randbytes(chance.randrange(1, 2000)),
        lambda: b"{" + chance.randbytes(chance.randrange(1, 2000)) + b"\n",
        lambda: b'{"content":' * chance.randrange(1, 3000) + b"\n",
        lambda: (
            json.dumps({"content": chance.random(), "op": chance.choice(["", None, "x"])}).encode() + b"\n"
        ),
        lambda: b"\n" * chance.randrange(1, 5000),
        lambda: b"GET / HTTP/1.1\r\n\r\n",
        lambda: b'{"op":"tail","job":"none"}\n' * 50,
        lambda: b"",
    ]
    with RawClient(port) as client:
        try:
            client.send(chance.choice(kinds)())
            if chance.random() < 0.5:
                client.end()
        except ConnectionError:
            return
