"""What the monitor does, minute by minute: no storms, no restart against somebody's will. Its parts."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bed.certificates import Authority
from bed.fakes import T0, FakeClock
from bed.ports import free_port
from bed.watched import mail_server

from broadcastd.alert_settings import AlertSettings
from broadcastd.alerts.texts import Text
from broadcastd.errors import NoDaemonError
from broadcastd.monitor.looks import Looks
from broadcastd.monitor.restarts import Restarts
from broadcastd.monitor.run import Monitor, Report
from broadcastd.monitor.standing import Traces, standing
from broadcastd.monitor.state import OtherRunError, State, StateError, StateFile
from broadcastd.monitor.telling import MailPost, Telling
from broadcastd.monitor.verdict import Facts, Limits, Port, Standing, judge

LIMITS = Limits(256, timedelta(days=14))
INFO: dict[str, Any] = {
    "progress": "ok",
    "stuck": [],
    "ledger": "ok",
    "jobs": {"held": 0},
    "accounts": {"default": {"wechat": "ok"}},
}
CANARY: dict[str, Any] = {"intake": "ok", "accounts": {"default": {"plan": "ok", "token": "ok"}}}
WELL = Facts(Port.ANSWERS, canary=CANARY, info=INFO, free_mb=1000)
DOWN = Facts(Port.REFUSED, "nobody listens", Standing.CRASHED, free_mb=1000)


class Eyes:
    """Sees what a test says. Stands for `Looks`."""

    def __init__(self, facts: Facts = WELL) -> None:
        self.facts = facts
        self.looks = 0

    def gather(self) -> Facts:
        self.looks += 1
        return self.facts

    def ping(self, within_s: float) -> tuple[Port, str]:
        assert within_s > 0
        return self.facts.port, self.facts.words


class Post:
    """Implements `Post`. While `broken`, nothing is taken."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.broken = False
        self._left: list[dict[str, Any]] = []

    def put(self, text: Text, look: str, urls: Sequence[int] | None = None, tries: int = 0) -> None:
        if self.broken:
            kept = {"title": text.title, "body": text.body, "look": look, "urls": [0], "tries": tries + 1}
            self._left.append(kept)
        else:
            self.titles.append(text.title.partition("] ")[2])

    def finish(self, within_s: float) -> list[dict[str, Any]]:
        del within_s
        left, self._left = self._left, []
        return left


class Minutes:
    """A run a minute, with the state in a file between them."""

    def __init__(self, folder: Path, restart: Sequence[str] = ()) -> None:
        self.clock, self.eyes, self.post = FakeClock(), Eyes(), Post()
        self.restart = restart
        self.limits = LIMITS
        self._file = StateFile(folder, "broadcastd.toml")
        with self._file.locked():
            pass

    def run(self, facts: Facts | None = None, minutes: int = 1) -> Report:
        if facts is not None:
            self.eyes.facts = facts
        for _ in range(minutes):
            report = self._run()
            self.clock.advance(60)
        return report

    def _run(self) -> Report:
        state = self._file.read()
        telling = Telling(AlertSettings(name="test"), state, self.post)
        monitor = Monitor(
            self.eyes, self.limits, self.restart, 10, state, telling, self.clock, pause=self.clock.advance
        )
        report = monitor.run()
        self._file.write(state)
        return report


@pytest.fixture
def minutes(tmp_path: Path) -> Minutes:
    return Minutes(tmp_path / "state")


DOES_NOT, AGAIN = "broadcastd does not answer", "over: broadcastd answers again"


def test_an_outage_is_told_once_and_when_it_is_over(minutes: Minutes) -> None:
    assert minutes.run(minutes=5).ok
    assert not minutes.run(DOWN, minutes=14).ok
    assert minutes.post.titles == [DOES_NOT]
    assert minutes.run(WELL, minutes=5).ok
    assert minutes.post.titles == [DOES_NOT, AGAIN]


def test_reminders_come_at_growing_intervals(minutes: Minutes) -> None:
    minutes.run(DOWN, minutes=6 * 60)
    assert minutes.post.titles == [DOES_NOT] + 3 * [f"still: {DOES_NOT}"]  # 15 min, 1 h, 4 h


def test_one_that_is_down_again_after_it_was_told_to_be_back_is_told_at_once(minutes: Minutes) -> None:
    minutes.run(DOWN)
    minutes.run(WELL)
    minutes.run(DOWN)
    assert minutes.post.titles == [DOES_NOT, AGAIN, DOES_NOT]
    minutes.run(minutes=14)
    assert minutes.post.titles[3:] == []
    minutes.run(WELL)
    assert minutes.post.titles[3:] == [AGAIN]


def test_what_comes_and_goes_every_minute_does_not_storm(minutes: Minutes) -> None:
    for _ in range(60):
        minutes.run(DOWN)
        minutes.run(WELL)
    assert len(minutes.post.titles) < 10


def test_each_restart_is_a_while_after_the_one_before(minutes: Minutes, tmp_path: Path) -> None:
    minutes.restart = ["/bin/sh", "-c", f"echo >> {tmp_path}/restarts"]
    report = minutes.run(DOWN)
    assert report.done[1] == "10 s after the restart it does not answer"
    minutes.run(minutes=60)
    assert len((tmp_path / "restarts").read_text().splitlines()) == 3  # at once, after 5 min, after 15 more


def test_a_restart_that_helps_is_told_with_what_was_down(minutes: Minutes) -> None:
    minutes.restart = ["/bin/true"]
    minutes.eyes.facts = DOWN
    seen = minutes.eyes

    def comes_back(within_s: float) -> tuple[Port, str]:
        del within_s
        if minutes.clock.monotonic_s() > 1006:
            seen.facts = WELL
        return seen.facts.port, seen.facts.words

    seen.ping = comes_back  # type: ignore[method-assign]
    report = minutes.run()
    assert report.ok
    assert minutes.post.titles == [DOES_NOT, AGAIN]


def test_a_restart_that_cannot_be_run_is_said(minutes: Minutes) -> None:
    minutes.restart = ["/nowhere/systemctl", "restart", "broadcastd"]
    report = minutes.run(DOWN)
    assert report.done[0] == "restart: /nowhere/systemctl restart broadcastd: No such file or directory"


def test_one_that_starts_or_stops_is_left_alone_for_a_while(minutes: Minutes, tmp_path: Path) -> None:
    minutes.restart = ["/bin/sh", "-c", f"echo >> {tmp_path}/restarts"]
    minutes.run(replace(DOWN, standing=Standing.STARTING), minutes=10)
    minutes.run(WELL)
    minutes.run(replace(DOWN, standing=Standing.STOPPING))
    assert not minutes.post.titles
    assert not (tmp_path / "restarts").exists()
    minutes.run(minutes=2)
    assert minutes.post.titles == [DOES_NOT]
    assert (tmp_path / "restarts").exists()


def test_nobody_listens_for_a_moment_only(minutes: Minutes) -> None:
    minutes.eyes.facts = DOWN

    def back(within_s: float) -> tuple[Port, str]:
        del within_s
        minutes.eyes.facts = WELL
        return Port.ANSWERS, ""

    minutes.eyes.ping = back  # type: ignore[method-assign]
    assert minutes.run().ok
    assert not minutes.post.titles


def test_while_it_is_down_nothing_else_is_over(minutes: Minutes) -> None:
    away = replace(WELL, canary={"intake": "ok", "accounts": {"default": {"plan": "away", "token": "ok"}}})
    minutes.run(away, minutes=2)
    told = "a post would not go through now: plan of account default"
    assert minutes.post.titles == [told]
    minutes.run(DOWN, minutes=2)
    assert minutes.post.titles == [told, DOES_NOT]
    minutes.run(WELL)
    assert sorted(minutes.post.titles[2:]) == [
        "over: broadcastd answers again",
        "over: posts would go through again: plan of account default",
    ]


def test_what_no_mail_server_took_is_sent_by_a_later_run(minutes: Minutes) -> None:
    minutes.post.broken = True
    minutes.run(DOWN, minutes=3)
    minutes.post.broken = False
    minutes.run()
    assert minutes.post.titles == [DOES_NOT]
    minutes.run(minutes=5)
    assert minutes.post.titles == [DOES_NOT]


def test_it_gives_up_on_an_alert_that_nobody_takes(minutes: Minutes) -> None:
    minutes.post.broken = True
    minutes.run(DOWN, minutes=14)
    minutes.run(WELL, minutes=70)
    minutes.post.broken = False
    minutes.run()
    assert not minutes.post.titles


# -- the state ---------------------------------------------------------------------------------------------


def test_the_state_is_one_runs_at_a_time(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "deep" / "er", "a.toml")
    with file.locked():
        with pytest.raises(OtherRunError), StateFile(tmp_path / "deep" / "er", "a.toml").locked():
            pass
        with StateFile(tmp_path / "deep" / "er", "b.toml").locked():  # another daemon's
            pass
        file.write(State(unanswered_s=1.5, restarts=Restarts(2.0, 1)))
        assert file.read() == State(unanswered_s=1.5, restarts=Restarts(2.0, 1))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"restarts": {}, "no": 1}'])
def test_a_damaged_state_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = StateFile(tmp_path, "a.toml")
    file.write(State())
    (there,) = tmp_path.glob("*.json")
    there.write_text(text)
    assert file.read() == State()


def test_without_a_place_for_its_state_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateError, match=r"monitor\.state_dir"),
        StateFile(tmp_path / "file" / "x", "a").locked(),
    ):
        pass


# -- how a daemon stands -----------------------------------------------------------------------------------


def fake_systemctl(folder: Path, says: str) -> str:
    script = folder / "systemctl"
    script.write_text(f"#!/bin/sh\nprintf '{says}'\n")
    script.chmod(0o700)
    return str(script)


@pytest.mark.parametrize(
    ("says", "found"),
    [
        (r"LoadState=loaded\nActiveState=inactive\n", Standing.STOPPED),
        (r"LoadState=loaded\nActiveState=failed\n", Standing.CRASHED),
        (r"LoadState=loaded\nActiveState=activating\n", Standing.STARTING),
        (r"LoadState=loaded\nActiveState=deactivating\n", Standing.STOPPING),
        (r"LoadState=loaded\nActiveState=active\n", Standing.UNKNOWN),
        (r"LoadState=not-found\nActiveState=inactive\n", Standing.UNKNOWN),
        ("nonsense", Standing.UNKNOWN),
    ],
)
def test_what_systemd_says_of_it(tmp_path: Path, says: str, found: Standing) -> None:
    restart = [fake_systemctl(tmp_path, says), "restart", "broadcastd"]
    assert standing(Traces(restart)) is found


def test_of_one_that_listens_and_hangs_only_systemd_is_believed(tmp_path: Path) -> None:
    lock = tmp_path / "ledger.db.lock"
    command = ["/bin/sh", "-c", "echo up; read _", "broadcastd"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as young:
        assert young.stdout is not None
        assert young.stdout.readline() == b"up\n"
        lock.write_text(str(young.pid))
        assert standing(Traces(("./start",), None, lock)) is Standing.STARTING
        assert standing(Traces(("./start",), None, lock), listens=True) is Standing.UNKNOWN
        says = fake_systemctl(tmp_path, r"LoadState=loaded\nActiveState=activating\n")
        assert standing(Traces([says, "restart", "b"], None, lock), listens=True) is Standing.STARTING
    assert standing(Traces(("./start",), None, lock)) is Standing.UNKNOWN


def test_what_its_pid_file_says_of_it(tmp_path: Path) -> None:
    restart = ["/usr/bin/broadcastd", "start", "-c", "x.toml"]
    file = tmp_path / "broadcastd.pid"
    assert standing(Traces(restart, file)) is Standing.STOPPED
    file.write_text("999999999\n")
    assert standing(Traces(restart, file)) is Standing.CRASHED
    file.write_text(f"{os.getppid()}\n")  # runs, and is no broadcastd
    assert standing(Traces(restart, file)) is Standing.CRASHED
    assert standing(Traces([*restart, "--pid-file", str(tmp_path / "other")], file)) is Standing.STOPPED
    assert standing(Traces(["/etc/init.d/site", "restart"], file)) is Standing.UNKNOWN


# -- looking -----------------------------------------------------------------------------------------------


def looks(ask: Callable[..., Any]) -> Looks:
    return Looks(ask, 0.05, Traces(()), None, {})


def raises(cause: BaseException | None, words: str = "it hung up without a reply") -> Callable[..., Any]:
    def ask(*_: Any) -> Any:
        raise NoDaemonError(words) from cause

    return ask


@pytest.mark.parametrize(
    ("ask", "port"),
    [
        (lambda *_: {"ok": True}, Port.ANSWERS),
        (lambda *_: {"ok": False, "error": "busy", "message": "…"}, Port.ANSWERS),
        (lambda *_: {"ok": False, "error": "unauthorized", "message": "…"}, Port.FOREIGN),
        (raises(ConnectionRefusedError()), Port.REFUSED),
        (raises(ConnectionResetError()), Port.REFUSED),
        (raises(TimeoutError()), Port.SILENT),
        (raises(None), Port.REFUSED),
        (raises(None, "what listens on x is not broadcastd"), Port.FOREIGN),
    ],
)
def test_what_an_answer_comes_to(ask: Callable[..., Any], port: Port) -> None:
    assert looks(ask).ping(0.05)[0] is port


def test_the_certificates_and_the_disk_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    ends = {"old": T0 - timedelta(days=1), "soon": T0 + timedelta(days=3), "late": T0 + timedelta(days=60)}
    authority = Authority(tmp_path)
    files = {name: authority.issue(name, ends=at).cert for name, at in ends.items()}
    files |= {"none": tmp_path / "none.pem", "gone": tmp_path / "gone.pem"}
    eyes = Looks(raises(ConnectionRefusedError()), 5, Traces(()), tmp_path / "ledger.db", files)
    facts = eyes.gather()
    assert facts.port is Port.REFUSED
    assert facts.free_mb is not None
    assert {one.about: one.ends_at for one in facts.certificates if one.ends_at} == ends
    bad = [one for one in judge(facts, LIMITS, T0) if one.check == "certificate" and not one.ok]
    assert [one.about for one in bad] == ["old", "soon", "none", "gone"]
    assert bad[2].words == f"none: {tmp_path}/none.pem is no certificate"
    assert "No such file" in bad[3].words


def test_what_one_address_did_not_take_is_sent_to_that_one_again() -> None:
    port = free_port()
    with mail_server() as (box, url):
        dead = f"mailto://127.0.0.1:{port}?from=a@b.example&to=c@d.example&mode=insecure"
        settings = AlertSettings.model_validate({"urls": [url, dead], "language": "zh", "name": "test"})
        post = MailPost(settings)
        state = State()
        telling = Telling(settings, state, post)
        telling.take(judge(DOWN, LIMITS, T0), T0)
        telling.finish(60)
        assert box.titles == ["broadcastd 没有应答"]
        (left,) = state.unsent
        assert (left["urls"], left["tries"]) == ([1], 1)
        assert dead not in str(left)
        with mail_server(port) as (other, _):
            again = Telling(settings, state, MailPost(settings))
            again.again()
            again.finish(60)
            assert other.titles == ["broadcastd 没有应答"]
        assert state.unsent == []
        assert len(box.mails) == 1
        assert any("told mailto://127.0.0.1" in words for words in post.words)


def test_without_an_address_nothing_is_kept() -> None:
    state = State()
    telling = Telling(AlertSettings(), state, MailPost(AlertSettings()))
    telling.take(judge(DOWN, LIMITS, T0), T0)
    telling.finish(10)
    assert state.unsent == []
