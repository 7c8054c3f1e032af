"""kill -9 at random moments, under several jobs at once: nobody is lost, and repeats stay within `in_doubt`.

Judged from the receiving side (a foreign endpoint that counts), beside what the daemon says of itself.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bed.arrivals import NO_ANSWER, Arrivals, lost, repeats
from bed.books import Auditor, check_books
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient

LATENCY_S = 0.02
SENDS_PER_TASK = 8
POLICIES = ("resend", "leave")
ACCOUNT = """
[accounts.first{size}]
api_base = "{api}"
channels = ["custom"]
[accounts.first{size}.audience]
url = "{url}"
query = "SELECT id, openid FROM tp_receiver WHERE receive_status = 1 AND id <= {size}{slowly}"
"""
SLOWLY = (
    " AND (SELECT count(*) FROM (WITH RECURSIVE busy(x) AS (SELECT tp_receiver.id UNION ALL"
    " SELECT x + 1 FROM busy LIMIT 1000) SELECT x FROM busy)) > 0"
)
"""Some tenths of a millisecond a row: its planning takes long enough to be killed in."""


@dataclass
class Asked:
    """One job of a test."""

    id: str
    tag: str
    size: int
    on_unknown: str

    @property
    def everybody(self) -> set[str]:
        return {openid(number) for number in range(1, self.size + 1)}


@dataclass
class Bed:
    """A daemon that is killed, and what reached the endpoint."""

    daemon: DaemonProcess
    arrivals: Arrivals
    chance: random.Random
    most_doubted: int = 0

    def ask(self, size: int, large: int, on_unknown: str, name: str = "") -> Asked:
        """A job for the first `size` of the audience; `large` is all of it."""
        tag = f"{name}{size}-{on_unknown}"
        account = "default" if size == large else f"first{size}"
        frame = {"content": tag, "key": tag, "account": account, "on_unknown": on_unknown}
        return Asked(self.daemon.call(frame)["job"], tag, size, on_unknown)

    def kill(self) -> None:
        """kill -9, and how many it may leave in doubt."""
        self.daemon.kill()
        now = time.time()
        answered = self.arrivals.between(now - 0.1 - LATENCY_S, now - LATENCY_S)
        self.most_doubted = max(self.most_doubted, 2 * 60 * SENDS_PER_TASK + answered)

    def start(self) -> None:
        """Start; now and then killed once more before it answers, so in the middle of its recovery."""
        if self.chance.random() < 0.3:
            self.daemon.launch(cold=True)
            # The moment itself is what is drawn: the start takes about so long.
            time.sleep(self.chance.uniform(0.2, 1.0))
            self.daemon.kill()
        self.daemon.start()

    def judge(self, one: Asked, *, whole: bool = True) -> None:
        """Compare what the endpoint counted with the books of a job that is done.

        `whole`: nobody has cancelled it while its audience was read, so everybody is in its books.
        """
        books = self.daemon.job(one.id)["books"]
        size = one.size if whole else books["recipients"]
        listed = self.daemon.who(one.id)
        unknown = {openid(line["id"]) for line in listed if line["outcome"] == "unknown"}
        sent = {openid(line["id"]) for line in listed if line["outcome"] == "sent"}
        failed = {openid(line["id"]) for line in listed if line["outcome"] in ("failed", "rejected")}
        received = self.arrivals.received(one.tag)
        everybody = {openid(number) for number in range(1, size + 1)}
        assert not lost(everybody, received, unknown | failed), one.tag
        assert sent <= set(received), f"{one.tag}: said to be sent, and never came"
        assert sorted(line["id"] for line in listed) == list(range(1, size + 1))
        assert books["recipients"] == books["ended"] == size
        assert books["balanced"]
        assert repeats(received) <= books["in_doubt"], one.tag
        if one.on_unknown == "leave":
            assert repeats(received) == 0, one.tag

    def judge_starts(self) -> None:
        """No kill left more in doubt than two chunks a task, and what was answered in the last 100 ms."""
        doubts = [event["in_doubt"] for event in self.daemon.events("ledger_opened")]
        assert max(doubts) <= self.most_doubted


@contextmanager
def _bed(folder: Path, large: int) -> Iterator[Bed]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    site = sqlite_site(folder / "site.db", large)
    with counting_endpoint(LATENCY_S) as endpoint:
        arrivals = Arrivals(endpoint)
        more = "".join(
            ACCOUNT.format(size=size, api=endpoint.url, url=site, slowly=SLOWLY if size == 501 else "")
            for size in (1, 499, 500, 501)
        )
        pool = f"sends_per_task = {SENDS_PER_TASK}"
        with (
            daemon_process(folder, endpoint.url, site, more=more, pool=pool) as daemon,
            Auditor(daemon.ledger) as auditor,
        ):
            yield Bed(daemon, arrivals, random.Random(seed))
        assert not auditor.found, auditor.found
        assert auditor.looks > 0
        check_books(daemon.ledger)


def _ended(bed: Bed, jobs: list[Asked]) -> bool:
    return all(bed.daemon.job(one.id)["state"] == "done" for one in jobs)


def _kill_at_random_moments(bed: Bed, jobs: list[Asked], kills: int) -> None:
    for _ in range(kills):
        # Between none and a few hundred calls after the start: planning and recovery are hit as well.
        until = len(bed.arrivals.all) + bed.chance.choice([0, 1, bed.chance.randrange(800)])
        eventually(lambda until=until: len(bed.arrivals.all) >= until or _ended(bed, jobs), what="it goes on")
        bed.kill()
        bed.start()


@pytest.mark.timeout(1800)
def test_after_kill_9_nobody_is_lost(tmp_path: Path, long_run: bool) -> None:
    kills, large = (100, 30_000) if long_run else (6, 5000)
    with _bed(tmp_path, large) as bed:
        jobs = [bed.ask(size, large, policy) for size in (1, 499, 500, 501, large) for policy in POLICIES]
        _kill_at_random_moments(bed, jobs, kills)
        for one in jobs:
            bed.daemon.wait_done(one.id)
            bed.judge(one)
        bed.judge_starts()


def _in_every_way(path: str, body: dict[str, Any]) -> bytes:
    """How an API may answer, at random; a fifth of it badly."""
    if random.random() < 0.8:
        return OK
    outside = b'{"errcode":45015,"errmsg":"response out of time limit rid: 1-2-3"}'
    busy = b'{"errcode":-1,"errmsg":"system error"}'
    return random.choice([NO_ANSWER, busy, outside, b'{"errcode":99999,"errmsg":"unheard of"}'])


@pytest.mark.timeout(1800)
def test_kills_while_the_api_fails_in_every_way(tmp_path: Path, long_run: bool) -> None:
    kills, large = (40, 10_000) if long_run else (3, 2000)
    with _bed(tmp_path, large) as bed:
        bed.arrivals.verdict = _in_every_way
        jobs = [bed.ask(large, large, policy) for policy in POLICIES]
        _kill_at_random_moments(bed, jobs, kills)
        for one in jobs:
            bed.daemon.wait_done(one.id)
            bed.judge(one)
        assert bed.daemon.job(jobs[0].id)["books"]["by_channel"]["template"] > 0


# -- kills under an operator's hands --------------------------------------------------------------------

AFTER: dict[str, tuple[str, ...]] = {
    "pause": ("paused",),
    "cancel": ("cancelling", "cancelled"),
    "retry": ("accepted", "running"),
    "drain": (),
}
"""In which of these a job is after a control was answered; or it has ended meanwhile."""


@dataclass
class Operator:
    """Controls jobs at random, and kills the daemon while it is at it."""

    bed: Bed
    jobs: list[Asked]
    cancelled: set[str] = field(default_factory=set)
    """Ids of the jobs that a cancel was sent for."""

    def act(self) -> None:
        """One control of one job and a kill, before its answer or after it; then look what became of it."""
        one = self.bed.chance.choice(self.jobs)
        before = self.bed.daemon.job(one.id)["state"]
        op = self._choose(before)
        since = len(self.bed.arrivals.all) + self.bed.chance.choice([0, 0, self.bed.chance.randrange(300)])
        eventually(
            lambda: len(self.bed.arrivals.all) >= since or _none_going(self.bed, self.jobs), what="it goes on"
        )
        answered = self._ask_and_kill(one, op)
        killed_at = time.time()
        self.bed.start()
        after = self.bed.daemon.job(one.id)["state"]
        if answered and AFTER[op]:
            assert after in (*AFTER[op], "done"), f"{op} of {before} was answered, and then it was {after}"
        if after in ("paused", "cancelling", "cancelled"):
            late = self.bed.arrivals.of(one.tag, since=killed_at)
            assert not late, f"{len(late)} of {one.tag} were asked although it was {after}"
        self._go_on(one, after)

    def _choose(self, state: str) -> str:
        if state in ("done", "cancelled"):
            return self.bed.chance.choice(["retry", "drain"])
        return self.bed.chance.choice(["pause", "cancel", "drain"])

    def _ask_and_kill(self, one: Asked, op: str) -> bool:
        """Whether it was answered before the kill, and not refused."""
        frame: dict[str, Any] = {"op": op}
        if op == "cancel":
            self.cancelled.add(one.id)
        if op != "drain":
            frame["job"] = one.id
        if op == "retry":
            frame["only"] = ["skipped", "failed", "rejected"]
        answered = False
        with RawClient(self.bed.daemon.port) as client:
            client.send(frame)
            if self.bed.chance.random() < 0.5:
                answered = client.reply()["ok"]
            else:
                time.sleep(self.bed.chance.uniform(0, 0.03))  # the moment itself is what is drawn
            self.bed.kill()
        return answered

    def _go_on(self, one: Asked, state: str) -> None:
        if state == "paused":
            assert self.bed.daemon.control("resume", one.id)["state"] in ("accepted", "running", "done")

    def bring_to_an_end(self) -> None:
        """Let every job end, and retry whoever was skipped by a cancel, until nobody is."""
        for one in self.jobs:
            view = self.bed.daemon.wait_state(one.id, "done", "cancelled")
            while view["books"]["skipped"]:
                again = self.bed.daemon.control("retry", one.id, only="skipped")
                assert again["ok"], again
                view = self.bed.daemon.wait_state(one.id, "done", "cancelled")


def _none_going(bed: Bed, jobs: list[Asked]) -> bool:
    return all(bed.daemon.job(one.id)["state"] in ("done", "cancelled", "paused") for one in jobs)


@pytest.mark.timeout(1800)
def test_kills_while_an_operator_pauses_cancels_retries_and_drains(tmp_path: Path, long_run: bool) -> None:
    kills, large = (60, 30_000) if long_run else (8, 4000)
    with _bed(tmp_path, large) as bed:
        jobs = [bed.ask(size, large, policy) for size in (1, 501, large) for policy in POLICIES]
        operator = Operator(bed, jobs)
        for _ in range(kills):
            operator.act()
        operator.bring_to_an_end()
        for one in jobs:
            bed.judge(one, whole=one.id not in operator.cancelled)
        bed.judge_starts()


@pytest.mark.parametrize("op", ["cancel", "expire"])
def test_who_is_in_doubt_when_a_job_is_ended_is_unknown_and_never_asked_again(
    tmp_path: Path, op: str
) -> None:
    with counting_endpoint(latency_s=20) as endpoint:
        arrivals = Arrivals(endpoint)
        site = sqlite_site(tmp_path / "site.db", 3000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            frame: dict[str, Any] = {"content": "doubtful", "key": "k"}
            if op == "expire":
                frame["not_after"] = time.time() + 3
            job = daemon.call(frame)["job"]
            eventually(lambda: len(arrivals.all) > 100, what="many wait for an answer")
            if op == "cancel":
                assert daemon.control("cancel", job)["state"] == "cancelling"
            else:
                daemon.wait_state(job, "expiring")
            daemon.kill()
            endpoint.latency_s = 0
            asked = {one.openid for one in arrivals.all}
            daemon.start()
            view = daemon.wait_state(job, "cancelled", "expired")
            unknown = {openid(line["id"]) for line in daemon.who(job, outcome=["unknown"])}
            assert asked <= unknown
            assert view["books"]["unknown"] == view["books"]["in_doubt"] == len(unknown) < 2000
            assert view["books"]["skipped"] == 3000 - len(unknown)
            retry = {"only": "skipped", "not_after": time.time() + 3600}
            assert daemon.control("retry", job, **retry)["state"] == "running"
            books = daemon.wait_done(job)["books"]
            assert (books["sent"], books["unknown"]) == (3000 - len(unknown), len(unknown))
        assert repeats(arrivals.received("doubtful")) == 0
        check_books(daemon.ledger)
