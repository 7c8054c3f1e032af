"""Many recipients on one connection, one after the other: the hot path, where all is well.

Called for every message, so it is written for speed: no coroutine, and no object a call but the row that is
recorded. Whatever else is answered goes the ordinary way (`Slots.judge`, `Sender`).
"""

from collections import deque
from typing import Protocol

from broadcastd.batch import SentOn
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.answered import Recipient
from broadcastd.delivery.memory import Follower
from broadcastd.delivery.recorder import Recorder
from broadcastd.delivery.sender import Heard, Sender, leave
from broadcastd.outcomes import Answer
from broadcastd.transport_ports import Raw

COUNTED_S = 0.1
"""The longest time until who was accepted is counted for operators: by the stream, not one by one."""


class Slice(Protocol):
    """What a stream knows of the slice that it belongs to: see `Slots`."""

    job: OpenJob
    job_no: int
    round_no: int
    clock: Clock
    recorder: Recorder
    at_work: int
    one_by_one: deque[Recipient]
    streams: tuple[deque[Recipient], ...]

    def may_ask(self) -> bool:
        """See `Slots`."""
        ...

    def is_barred(self, openid: str) -> bool:
        """See `Slots`."""
        ...

    def judge(self, who: Recipient, channel_no: int, answer: Answer, since: int) -> None:
        """See `Slots`."""
        ...

    def answered(self) -> None:
        """See `Slots`."""
        ...

    def count_sent(self, channel: str, many: int, now_s: float) -> None:
        """See `Slots`."""
        ...

    def note(self, follower: Follower) -> None:
        """See `Slots`."""
        ...


class Stream:
    """Implements `CallSource`: those of one slice who wait for one channel. `close` it."""

    def __init__(self, of: Slice, channel_no: int, token: str, ticket: int) -> None:
        """`ticket`: the lane's, for the first call."""
        self._of = of
        self._channel_no = channel_no
        self._token = token
        self._ticket = ticket
        self._account = account = of.job.account
        self._channel, self._message = of.job.route[channel_no]
        self._name = self._channel.name
        self._lane = account.lanes[self._name]
        self._queue = of.streams[channel_no]
        self._pace, self._gate, self._opt_outs = account.pace, account.gate, account.opt_outs
        self._streaks, self._tokens = account.streaks, account.tokens
        self._monotonic_s, self._now_ms = of.clock.monotonic_s, of.clock.now_ms
        self._body, self._names_itself = self._message.body, self._message.names_itself
        self._record, self._answered = of.recorder.sent, of.answered
        self._on = SentOn(of.job_no, of.round_no, self._name)
        self._who: Recipient | None = None
        self._began_s = 0.0
        self._since = account.tried_again
        self._plain: bytes | None = None
        """An answer that says that all is well, and nothing else."""
        self._latencies_s: list[float] = []
        """Of those who were accepted and are not counted yet."""
        self._count_at_s = self._monotonic_s() + COUNTED_S
        self.calls = 0
        self.heard: tuple[Recipient, Heard] | None = None
        """Who has to be asked once more at once, which a stream cannot do."""
        account.pace.started()

    def close(self) -> None:
        """Give up its place, whatever became of it."""
        now_s = self._monotonic_s()
        if self._latencies_s:
            self._count(now_s)
        self._pace.ended(now_s, None)
        if self._who is not None and self._opt_outs is not None:
            self._opt_outs.call_ended(self._who.openid)
        if self._ticket:
            self._lane.leave(self._ticket)
            self._ticket = 0

    def next_call(self) -> bytes | None:
        """See `CallSource`."""
        of = self._of
        if not (self._ticket and self._queue) or of.one_by_one or of.at_work > self._pace.sends_per_task:
            return None
        now_s = self._monotonic_s()
        is_present = self._tokens.present == self._token  # it may have been renewed ahead of its end
        if not (is_present and self._gate.is_wide_open(now_s) and of.may_ask()):
            return None
        who = self._queue.popleft()
        if self._opt_outs is not None:
            if of.is_barred(who.openid):
                of.one_by_one.append(who)
                return None
            self._opt_outs.call_began(who.openid)
        self._who = who
        self._began_s = now_s
        self._since = self._account.tried_again
        self.calls += 1
        return self._body(who.openid, of.job.message_id(who.id) if self._names_itself else "")

    def still(self) -> bool:
        """See `CallSource`."""
        assert self._who is not None
        # A latency is that of the call: how long connections take says nothing of how many are of use.
        self._began_s = self._monotonic_s()
        is_open = self._lane.held is None and self._gate.is_wide_open(self._began_s)
        return is_open and self._of.may_ask() and not self._of.is_barred(self._who.openid)

    def ended(self, raw: Raw | None) -> None:
        """See `CallSource`."""
        who = self._who
        assert who is not None
        self._who = None
        if self._opt_outs is not None:
            self._opt_outs.call_ended(who.openid)
        if raw is None:
            self._queue.appendleft(who)
            self._lane.leave(self._ticket)
            self._ticket = 0
            return
        now_s = self._monotonic_s()
        latency_s = now_s - self._began_s
        if self._channel_no > who.channel_no:
            self._count_spared(who)
        if raw == self._plain:
            self._accepted(who, None, now_s, latency_s)
            return
        answer = self._channel.read(raw)
        if answer.errcode or not answer.answered:
            self._refused(who, answer, now_s, latency_s)
            return
        if answer.msgid is None and isinstance(raw, bytes):
            self._plain = raw
        self._accepted(who, answer.msgid, now_s, latency_s)

    def _accepted(self, who: Recipient, msgid: int | None, now_s: float, latency_s: float) -> None:
        self._gate.passed()
        if self._streaks.is_watching:
            self._streaks.is_too_long(0, who.openid)
        self._ticket = self._lane.another(self._ticket, now_s)
        if who.follower is not None:
            who.follower.heard(self._name, 0)
            self._of.note(who.follower)
        # A callback is told how the message ends; without one nobody will ask for the number.
        row = (who.id, who.openid, self._now_ms(), msgid if self._opt_outs is not None else None)
        self._record(self._on, row)
        self._latencies_s.append(latency_s)
        if now_s >= self._count_at_s:
            self._count(now_s)
        self._answered()

    def _count(self, now_s: float) -> None:
        latencies_s, self._latencies_s = self._latencies_s, []
        self._pace.note(now_s, latencies_s)
        self._lane.calls.accepted(latencies_s)
        self._of.count_sent(self._name, len(latencies_s), now_s)
        self._count_at_s = now_s + COUNTED_S

    def _refused(self, who: Recipient, answer: Answer, now_s: float, latency_s: float) -> None:
        self._pace.note(now_s, [latency_s])
        self._lane.calls.ended(answer, latency_s)
        leave(self._lane, self._ticket, answer)
        self._ticket = 0
        if Sender.needs_another_call(answer):
            self.heard = who, Heard(self._token, answer)
            return
        self._of.judge(who, self._channel_no, answer, self._since)
        self._ticket = self._lane.enter_at_once()

    def _count_spared(self, who: Recipient) -> None:
        """The channels before this one were not asked."""
        if who.follower is not None:
            who.follower.saved += self._channel_no - who.channel_no
        who.channel_no = self._channel_no
