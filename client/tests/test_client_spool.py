"""A paid post is not lost while the daemon is down."""

import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from client_scripted import answer, free_port, hang_up, refuse, say, scripted, stay_silent

from broadcastd_client import BroadcastError, Client, spool
from broadcastd_client.cli import main

TEXT = "求購玉米 😀"
DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def fail(folder, plays=(), **fields):
    """A broadcast that is not confirmed; the error."""
    with scripted(*(plays or [hang_up])) as server:
        port = server.port if plays else free_port()
        with pytest.raises(BroadcastError) as caught:
            Client(port=port, token="s3cret", timeout_s=0.3, spool=folder).broadcast(TEXT, **fields)
    return caught.value


def keep(folder, key, age_ns=0):
    """Put a frame into the spool, as if that long ago."""
    path = spool.opened(folder)
    name = f"{time.time_ns() - age_ns:020d}-{key}.json"
    (path / name).write_bytes(json.dumps({"content": TEXT, "key": key}).encode())
    return path / name


def keys(server):
    return [frame["key"] for frame in server.frames]


def names(folder, suffix=".json"):
    return sorted(path.name for path in folder.glob(f"*{suffix}"))


@pytest.mark.parametrize(
    "plays",
    [
        (),
        [hang_up],
        [stay_silent],
        [refuse("not_durable", True)],
        [refuse("busy", True)],
        [refuse("draining", True)],
        [refuse("unauthorized", False)],
        [say(b"HTTP/1.1 400\r\n")],
    ],
)
def test_what_is_not_confirmed_is_kept_whole_without_the_token(plays, folder):
    error = fail(folder, plays, key="order-17", phone="110", ref="r", flag=3)
    assert error.spooled
    assert "spooled=True" in str(error)
    (name,) = names(folder)
    raw = (folder / name).read_bytes()
    assert json.loads(raw) == {"content": TEXT, "phone": "110", "ref": "r", "flag": 3, "key": "order-17"}
    assert TEXT.encode() in raw


def test_a_made_key_is_kept_too(folder):
    error = fail(folder)
    assert json.loads((folder / names(folder)[0]).read_bytes())["key"] == error.key


@pytest.mark.parametrize("code", ["conflict", "bad_content", "bad_frame"])
def test_what_is_refused_for_good_is_not_kept(code, folder):
    assert not fail(folder, [refuse(code, False)]).spooled
    assert not folder.exists()


def test_the_directory_is_private_and_a_frame_is_synced_before_it_has_its_name(folder, monkeypatch):
    events = []
    sync, rename = os.fsync, spool.Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd))[1]
    )
    monkeypatch.setattr(spool.Path, "rename", lambda a, b: (events.append("rename"), rename(a, b))[1])
    fail(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert events[0].endswith(".tmp")
    assert events[1:] == ["rename", str(folder), str(folder.parent)]


def test_frames_sort_by_the_time_they_were_kept(folder):
    for number in range(5):
        fail(folder, key=f"order-{number}")
    with scripted(answer) as server:
        assert Client(port=server.port, spool=folder).flush() == {
            "sent": 5,
            "refused": 0,
            "left": 0,
            "old": 0,
        }
    assert keys(server) == [f"order-{number}" for number in range(5)]
    assert names(folder) == []


def make_link(folder):
    target = folder.with_name("target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


def make_open(folder):
    folder.mkdir()
    folder.chmod(0o750)


def make_file(folder):
    folder.write_text("")


def make_foreign(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)


@pytest.mark.parametrize("make", [make_link, make_open, make_file, make_foreign])
def test_a_place_that_others_may_meddle_with_is_not_used_and_the_call_says_so(make, folder, caplog):
    if make is make_foreign and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    make(folder)
    error = fail(folder, key="order-17")
    assert not error.spooled
    assert "order-17 cannot be spooled" in caplog.text
    with pytest.raises(OSError, match="spool"):
        Client(spool=folder).flush()
    with scripted(answer) as server:
        assert Client(port=server.port, spool=folder).broadcast(TEXT)["ok"]
    assert "the spool cannot be sent" in caplog.text


def test_the_next_call_sends_its_own_frame_first_and_then_the_spool_oldest_first(folder):
    keep(folder, "younger", age_ns=10**9)
    keep(folder, "older", age_ns=2 * 10**9)
    with scripted(answer) as server:
        assert (
            Client(port=server.port, spool=folder, token="s3cret").broadcast(TEXT, key="own")["job"]
            == "j-own"
        )
    assert keys(server) == ["own", "older", "younger"]
    assert {frame["token"] for frame in server.frames} == {"s3cret"}
    assert names(folder) == []


def test_the_spool_gets_no_more_than_what_is_left_of_the_budget(folder):
    for number in range(3):
        keep(folder, f"order-{number}")
    with scripted(answer, stay_silent) as server:
        begin_s = time.monotonic()
        assert Client(port=server.port, spool=folder, timeout_s=0.5).broadcast(TEXT, key="own")["ok"]
        assert time.monotonic() - begin_s < 0.5 + 1
    assert keys(server) == ["own", "order-0"]
    assert len(names(folder)) == 3


def test_a_call_that_fails_leaves_the_spool_alone(folder):
    keep(folder, "waiting")
    fail(folder, [hang_up, refuse("busy", True)], key="own")
    assert len(names(folder)) == 2


def test_what_is_over_a_day_old_waits_for_old(folder):
    keep(folder, "stale", age_ns=DAY_NS + 10**9)
    keep(folder, "fresh", age_ns=DAY_NS - 60 * 10**9)
    with scripted(answer) as server:
        client = Client(port=server.port, spool=folder)
        client.broadcast(TEXT, key="own")
        assert keys(server) == ["own", "fresh"]
        assert client.flush() == {"sent": 0, "refused": 0, "left": 0, "old": 1}
        assert client.flush(old=True) == {"sent": 1, "refused": 0, "left": 0, "old": 0}
        assert keys(server) == ["own", "fresh", "stale"]


def test_what_is_refused_for_good_is_set_aside_with_the_reason_and_sounds_the_alarm(folder):
    keep(folder, "order-1")
    keep(folder, "order-2")
    heard, done = [], threading.Event()
    with scripted(answer, refuse("conflict", False), answer) as server:
        client = Client(port=server.port, spool=folder, alarm=lambda error: (heard.append(error), done.set()))
        assert client.broadcast(TEXT, key="own")["ok"]
        assert done.wait(10)
    assert heard[0].key == "order-1"
    (aside,), (reason,) = names(folder, ".refused"), names(folder, ".reason")
    assert "conflict" in (folder / reason).read_text()
    assert json.loads((folder / aside).read_bytes())["key"] == "order-1"
    assert keys(server)[1:] == ["order-1", "order-2"]


@pytest.mark.parametrize(
    "raw", [b"", b'{"content":"cut', b"[]", b"null", b'{"content":"no key"}', b"\xff\xfe", b"[" * 9999]
)
def test_a_broken_file_is_set_aside_and_the_rest_is_sent(raw, folder):
    keep(folder, "order-1", age_ns=10**9).write_bytes(raw)
    keep(folder, "order-2")
    with scripted(answer) as server:
        counts = Client(port=server.port, spool=folder).flush()
    assert counts == {"sent": 1, "refused": 1, "left": 0, "old": 0}
    assert keys(server) == ["order-2"]
    assert "holds no frame" in (folder / names(folder, ".reason")[0]).read_text()


def test_foreign_files_are_left_alone(folder):
    keep(folder, "order-1")
    (folder / "README.txt").write_text("hands off")
    (folder / "by-hand.json").write_text(json.dumps({"content": TEXT, "key": "by-hand"}))
    with scripted(answer) as server:
        assert Client(port=server.port, spool=folder).flush(old=True)["sent"] == 2
    assert (folder / "README.txt").exists()


def test_a_frame_whose_writer_was_killed_before_the_rename_is_sent_later(folder):
    keep(folder, "just written").rename(folder / f"{time.time_ns():020d}-a.tmp")
    keep(folder, "orphan", age_ns=61 * 10**9).rename(folder / f"{time.time_ns() - 61 * 10**9:020d}-b.tmp")
    with scripted(answer) as server:
        assert Client(port=server.port, spool=folder).flush()["sent"] == 1
    assert keys(server) == ["orphan"]


def test_a_frame_that_the_daemon_cannot_take_now_does_not_hold_up_the_others(folder):
    keep(folder, "order-1", age_ns=10**9)
    keep(folder, "order-2")

    def play(server, sock):
        frame = json.loads(sock.makefile("rb").readline())
        server.lines.append(json.dumps(frame).encode())
        bad = b'{"ok":false,"error":"internal","message":"","retry":true}\n'
        sock.sendall(bad if frame["key"] == "order-1" else b'{"ok":true,"job":"j2"}\n')

    with scripted(play) as server:
        counts = Client(port=server.port, spool=folder, timeout_s=0.3).flush()
    assert counts == {"sent": 1, "refused": 0, "left": 1, "old": 0}


def test_a_flush_stops_at_once_when_nobody_is_there(folder):
    for number in range(50):
        keep(folder, f"order-{number}")
    counts = Client(port=free_port(), spool=folder, timeout_s=0.2).flush()
    assert counts == {"sent": 0, "refused": 0, "left": 50, "old": 0}


def flush_away(port, folder, start):
    start.wait()
    Client(port=port, spool=folder).flush()


def test_many_processes_that_flush_at_once_send_each_frame_once(folder):
    wanted = {str(keep(folder, f"order-{number}").name): f"order-{number}" for number in range(60)}
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    with scripted(answer) as server:
        crowd = [context.Process(target=flush_away, args=(server.port, folder, start)) for _ in range(4)]
        for process in crowd:
            process.start()
        start.set()
        for process in crowd:
            process.join()
        assert [process.exitcode for process in crowd] == [0] * 4
    assert sorted(keys(server)) == sorted(wanted.values())
    assert names(folder) == []


def fill(folder, worker):
    for number in range(20):
        spool.put(spool.opened(folder), json.dumps({"content": TEXT, "key": f"{worker}-{number}"}).encode())


def test_processes_may_put_while_others_flush(folder):
    context = multiprocessing.get_context("spawn")
    with scripted(answer) as server:
        crowd = [context.Process(target=fill, args=(folder, worker)) for worker in range(3)]
        for process in crowd:
            process.start()
        while any(process.is_alive() for process in crowd):
            Client(port=server.port, spool=folder).flush()
        for process in crowd:
            process.join()
            assert process.exitcode == 0
        Client(port=server.port, spool=folder).flush()
    assert sorted(keys(server)) == sorted(f"{worker}-{number}" for worker in range(3) for number in range(20))


def test_a_call_does_not_wait_for_the_process_that_flushes(folder):
    keep(folder, "order-1")
    with spool.locked(spool.opened(folder) / ".lock"), scripted(answer) as server:
        assert Client(port=server.port, spool=folder).broadcast(TEXT, key="own")["ok"]
    assert keys(server) == ["own"]
    assert len(names(folder)) == 1


def test_a_killed_flusher_leaves_nothing_locked_and_nothing_lost(folder):
    keep(folder, "order-1")
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    start.set()
    with scripted(stay_silent, answer) as server:
        flusher = context.Process(target=flush_away, args=(server.port, folder, start))
        flusher.start()
        while not server.lines:
            assert flusher.is_alive()
        flusher.kill()
        flusher.join()
        assert Client(port=server.port, spool=folder).flush()["sent"] == 1
    assert keys(server) == ["order-1", "order-1"]


def test_a_reason_that_is_no_text_does_not_harm_the_call_that_finds_it(folder):
    keep(folder, "order-1")
    odd = b'{"ok":false,"error":"bad_content","message":"\\ud800","retry":false}\n'
    with scripted(answer, say(odd)) as server:
        assert Client(port=server.port, spool=folder).broadcast(TEXT)["ok"]
    assert "bad_content" in (folder / names(folder, ".reason")[0]).read_text()


def test_a_thread_that_outlives_the_main_one_can_still_broadcast(folder):
    script = """
        import sys, threading
        import broadcastd_client
        def late():
            threading.main_thread().join()
            print(broadcastd_client.broadcast("x", port=int(sys.argv[1]), host="localhost")["job"])
        threading.Thread(target=late).start()
    """
    with scripted(answer) as server:
        line = [sys.executable, "-c", textwrap.dedent(script), str(server.port)]
        ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("j-c-"), ended.stderr


def test_an_interrupted_process_keeps_the_post_it_had_in_hand(folder):
    class Interrupting(Client):
        def _connected(self, deadline_s):
            raise KeyboardInterrupt

    heard = []
    with pytest.raises(KeyboardInterrupt):
        Interrupting(spool=folder, alarm=heard.append).broadcast(TEXT, key="order-17")
    assert len(names(folder)) == 1


def test_flush_on_the_command_line_sends_and_lists_what_was_set_aside(folder, capsys):
    keep(folder, "order-1", age_ns=10**9)
    keep(folder, "order-2")
    keep(folder, "stale", age_ns=DAY_NS + 10**9)
    with scripted(refuse("conflict", False), answer) as server:
        assert main(["flush", "--spool", str(folder), "--port", str(server.port)]) == 5
        told = capsys.readouterr().out
        assert "sent 1, refused 1, left 0, old 1" in told
        assert "it is conflict" in told
        assert main(["flush", "--old", "--spool", str(folder), "--port", str(server.port)]) == 0
        assert "it is conflict" in capsys.readouterr().out
    assert keys(server)[1:] == ["order-2", "stale"]
