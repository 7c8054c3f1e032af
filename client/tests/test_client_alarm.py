"""Alarms: outside the budget, never in the way, and not a flood."""

import email
import email.policy
import multiprocessing
import socketserver
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from client_scripted import answer, free_port, refuse, scripted

from broadcastd_client import Client, MailAlarm, Refused, Unreachable

TEXT = "求購玉米"


class Mailbox(socketserver.ThreadingTCPServer):
    """A small SMTP receiver (RFC 5321: HELO/EHLO, MAIL, RCPT, DATA, QUIT)."""

    daemon_threads = True

    def __init__(self):
        self.mails, self.arrived = [], threading.Condition()
        super().__init__(("127.0.0.1", 0), Talk)
        self.port = self.server_address[1]

    def wait_for(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.mails) >= count, 20)
        return self.mails


class Talk(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 mailbox\r\n")
        to = []
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"RCPT":
                to.append(line.split(b"<")[1].split(b">")[0].decode())
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                mail = email.message_from_bytes(body, policy=email.policy.default)
                with self.server.arrived:
                    self.server.mails.append((to, mail))
                    self.server.arrived.notify_all()
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@pytest.fixture
def mailbox():
    with Mailbox() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def mail_alarm(port, folder, **settings):
    return MailAlarm(
        "127.0.0.1", port, "shop@example.com", ["a@example.com", "b@example.com"], folder / "mail", **settings
    )


def fail(**settings):
    with pytest.raises(Unreachable) as caught:
        Client(port=free_port(), timeout_s=1.0, **settings).broadcast(TEXT, key="order-17")
    return caught.value


def join_alarms():
    for thread in threading.enumerate():
        if thread.name == "broadcastd-alarm":
            thread.join(10)


def test_one_mail_goes_to_all_addresses_and_says_what_became_of_the_post(mailbox, tmp_path):
    fail(alarm=mail_alarm(mailbox.port, tmp_path), spool=tmp_path / "spool")
    ((to, mail),) = mailbox.wait_for(1)
    assert to == ["a@example.com", "b@example.com"]
    assert mail["To"] == "a@example.com, b@example.com"
    assert "order-17" in mail["Subject"]
    text = mail.get_content()
    assert "spooled=True" in text
    assert "Connection refused" in text
    assert TEXT not in text


def alarm_away(port, folder, count, start):
    start.wait()
    alarm = mail_alarm(port, folder)
    for _ in range(count):
        alarm(Unreachable("gone"))


def test_many_processes_send_one_mail_in_ten_minutes(mailbox, tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    crowd = [context.Process(target=alarm_away, args=(mailbox.port, tmp_path, 5, start)) for _ in range(4)]
    for process in crowd:
        process.start()
    start.set()
    for process in crowd:
        process.join()
        assert process.exitcode == 0
    assert len(mailbox.mails) == 1


def test_the_next_mail_goes_out_when_the_interval_is_over(mailbox, tmp_path):
    alarm = mail_alarm(mailbox.port, tmp_path)
    alarm(Unreachable("first"))
    (tmp_path / "mail").write_text(str(time.time() - 599))
    alarm(Unreachable("too soon"))
    (tmp_path / "mail").write_text(str(time.time() - 601))
    alarm(Unreachable("second"))
    assert ["first" in mail.get_content() for _, mail in mailbox.mails] == [True, False]


def test_a_mail_server_that_was_down_does_not_use_up_the_turn(mailbox, tmp_path):
    with pytest.raises(OSError, match="refused"):
        mail_alarm(free_port(), tmp_path)(Unreachable("gone"))
    mail_alarm(mailbox.port, tmp_path)(Unreachable("gone"))
    assert len(mailbox.mails) == 1


def test_a_connection_of_ones_own_kind_can_be_given(mailbox, tmp_path):
    import smtplib

    asked = []

    def connect(host, port, timeout):
        asked.append(timeout)
        return smtplib.SMTP(host, port, timeout=timeout)

    mail_alarm(mailbox.port, tmp_path, connect=connect, timeout_s=3)(Unreachable("gone"))
    assert (asked, len(mailbox.mails)) == ([3], 1)


def test_an_alarm_does_not_hold_up_the_call_and_hears_the_final_facts(tmp_path):
    begun, go_on, heard = threading.Event(), threading.Event(), []

    def hook(error):
        begun.set()
        go_on.wait()
        heard.append((error.spooled, error.key))

    begin_s = time.monotonic()
    error = fail(alarm=hook, spool=tmp_path / "spool")
    assert time.monotonic() - begin_s < 1
    assert begun.wait(10)
    assert heard == []
    go_on.set()
    join_alarms()
    assert heard == [(True, "order-17")]
    assert error.spooled


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_alarm_that_fails_masks_nothing_and_the_others_sound():
    sounded = threading.Event()

    def broken(error):
        raise RuntimeError("the hook is broken")

    fail(alarm=[broken, lambda error: sounded.set()])
    assert sounded.wait(10)
    join_alarms()


def test_no_more_threads_mask_nothing(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert "can't start new thread" in str(fail(alarm=print))


def test_a_post_that_is_refused_for_good_sounds_and_a_success_does_not():
    heard, sounded = [], threading.Event()
    hook = lambda error: (heard.append(error), sounded.set())  # noqa: E731
    with scripted(answer, refuse("conflict", False)) as server:
        client = Client(port=server.port, alarm=hook)
        client.broadcast(TEXT)
        with pytest.raises(Refused):
            client.broadcast(TEXT)
    assert sounded.wait(10)
    assert [error.code for error in heard] == ["conflict"]


SCRIPT = """
    import sys, threading, time
    import broadcastd_client
    from broadcastd_client import alarm
    alarm.EXIT_WAIT_S = float(sys.argv[2])
    def hook(error):
        print("begun", flush=True)
        time.sleep(float(sys.argv[3]))
        print("done", flush=True)
    try:
        broadcastd_client.broadcast("x", port=int(sys.argv[1]), timeout_s=0.1, alarm=hook)
    except broadcastd_client.Unreachable:
        print("unreachable", flush=True)
"""


@pytest.mark.parametrize(("wait_s", "hook_s", "ends"), [("20", "0.3", True), ("0.3", "600", False)])
def test_a_script_that_ends_waits_for_its_alarm_but_not_for_ever(wait_s, hook_s, ends):
    line = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(free_port()), wait_s, hook_s]
    ended = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    assert "unreachable" in ended.stdout
    assert ("done" in ended.stdout) is ends
    assert "begun" in ended.stdout
