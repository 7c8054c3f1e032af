"""One recipient through a job's channels, in order. What an errcode means is a table (`errcodes`)."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.answered import (
    ACCOUNT_TRY_S,
    MINUTE_S,
    Answered,
    Recipient,
    hold_account,
    in_a_minute,
    once_more,
    reject,
    stop,
)
from broadcastd.delivery.lane import HoldOf, Lane
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.errors import TokenUnavailableError
from broadcastd.model import OnUnknown
from broadcastd.outcomes import Answer, Ended, Gather, Halt, Later, Outcome, Verdict
from broadcastd.ports import Channel

log = structlog.get_logger()

V = TypeVar("V")

TOKEN_PAUSE_S = 5
"""Before a token is looked for again that was refused right after reading it."""

IN_DOUBT_PAUSE_S = 1
"""Before a recipient that got no answer is asked once more."""

SHORTEST_SLOWING_S = 5
"""45011 says: again next minute. The next one may begin at once, by another clock."""

LONGEST_DEFERRAL_S = 3600
"""A held channel may come back before it is expected."""

SYSTEM_BUSY = -1
BUSY = (SYSTEM_BUSY, 45011)
"""Answers that mean: too much."""

PROBES = 8
"""Times that one recipient tries for all in an outage: 50 s. Then it is another's turn: it may be its own."""


STOPPED = "stopped"
"""The reason of a recipient who was not asked because `may_ask` said no."""

HOLDING = frozenset({Action.QUOTA, Action.HOLD_CHANNEL, Action.HOLD_ACCOUNT, Action.REFRESH, Action.SLOW})
"""After these nothing says that a channel takes messages again."""


@dataclass(frozen=True, slots=True)
class Fell:
    """On to the next channel; 0: this one was not asked."""

    errcode: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """A call was made already, with this token, and was answered so."""

    token: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Call:
    """One call to be made; `heard`: its first try is behind it."""

    openid: str
    body: bytes
    heard: Heard | None = None


class Sender:
    """Asks WeChat. Holds no state of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._others: Mapping[Action, Callable[[Answered], Verdict | Fell]] = {
            Action.REJECT: reject,
            Action.REFRESH: self._refresh,
            Action.SLOW: self._slow,
            Action.QUOTA: self._hold_channel,
            Action.HOLD_CHANNEL: self._hold_channel,
            Action.HOLD_ACCOUNT: hold_account,
            Action.STOP: stop,
            Action.REBUILD: stop,
            Action.MINUTE: in_a_minute,
            Action.RETRY: once_more,
        }

    async def ask(
        self, job: OpenJob, who: Recipient, may_ask: Callable[[], bool], heard: Heard | None = None
    ) -> Verdict:
        """Try the channels in turn until one decides. Never raises for what WeChat or the network do.

        `may_ask` is asked right before each call: a job may be paused while one recipient's channels are
        gone through, or while a token is waited for. `heard`: the first call has been made already.
        """
        errcode, since = who.errcode, job.account.tried_again
        for channel_no in range(who.channel_no, len(job.route)):
            spared = _spared(job, channel_no, who) if may_ask() and heard is None else None
            verdict = spared or await self._try(job, channel_no, who, may_ask, heard)
            heard = None
            if not isinstance(verdict, Fell):
                return _unless_old(job.account, who, verdict, since)
            errcode = verdict.errcode or errcode
        return Ended(Outcome.REJECTED, job.route[-1][0].name, errcode)

    def judge(
        self, job: OpenJob, channel_no: int, who: Recipient, answer: Answer, since: int
    ) -> "Verdict | Fell":
        """What an answer comes to, when no other call has to be made to know it (`needs_another_call`).

        `since`: how often the account had been tried again when the call began.
        """
        return _unless_old(job.account, who, self._judge(job, channel_no, who, answer), since)

    @staticmethod
    def needs_another_call(answer: Answer) -> bool:
        """Whether the same recipient is asked once more at once: `ask` with what was heard."""
        return answer.answered and (
            answer.errcode == SYSTEM_BUSY or meaning_of(answer.errcode).action is Action.REFRESH
        )

    def _judge(self, job: OpenJob, channel_no: int, who: Recipient, answer: Answer) -> "Verdict | Fell":
        if not answer.answered:
            return self._trouble(job, channel_no, who, answer)
        if who.follower is not None:
            who.follower.heard(job.route[channel_no][0].name, answer.errcode)
        return self._by_table(Answered(job, channel_no, who, answer.errcode, answer.msgid))

    async def _try(
        self,
        job: OpenJob,
        channel_no: int,
        who: Recipient,
        may_ask: Callable[[], bool],
        heard: Heard | None,
    ) -> "Verdict | Fell":
        """One channel, unless it is held."""
        channel, message = job.route[channel_no]
        if heard is None and job.account.lanes[channel.name].held is not None:
            return self._held(job, channel_no, who)
        if channel_no == job.gathers_at:
            return Gather(channel_no)
        body = message.body(who.openid, job.message_id(who.id))
        return await self._call(job, channel_no, who, _Call(who.openid, body, heard), may_ask)

    async def ask_list(
        self, job: OpenJob, channel_no: int, who: Recipient, body: bytes, may_ask: Callable[[], bool]
    ) -> Verdict:
        """One call for many, of whom `who` tells the tries; the verdict is of them all.

        `Later` on another channel: they go on there.
        """
        fell = await self._call(job, channel_no, who, _Call(who.openid, body), may_ask)
        return self._whole(job, channel_no, fell)

    def held_list(self, job: OpenJob, channel_no: int) -> Verdict | None:
        """As `ask_list`, before there is anything to ask; None: nothing speaks against it."""
        if job.account.lanes[job.route[channel_no][0].name].held is None:
            return None
        return self._whole(job, channel_no, self._held(job, channel_no, Recipient(0, "")))

    @staticmethod
    def _whole(job: OpenJob, channel_no: int, verdict: "Verdict | Fell") -> Verdict:
        if not isinstance(verdict, Fell):
            return verdict
        if channel_no + 1 < len(job.route):
            return Later(0.0, "next channel", channel_no + 1)
        return Ended(Outcome.REJECTED, job.route[channel_no][0].name, verdict.errcode)

    async def _call(
        self, job: OpenJob, channel_no: int, who: Recipient, call: _Call, may_ask: Callable[[], bool]
    ) -> "Verdict | Fell":
        """One channel, asked."""
        channel = job.route[channel_no][0]
        lane = job.account.lanes[channel.name]
        try:
            answer = await self._probed(job.account, channel, call, lambda: may_ask() and lane.held is None)
        except TokenUnavailableError as error:
            return self._no_token_yet(job.account, channel_no, who, error)
        if answer is None and may_ask() and lane.held is not None:
            return self._held(job, channel_no, who)  # since it has waited for a place
        if answer is None:
            return Later(0.0, STOPPED, channel_no, who.tries, refusals=who.refusals)
        return self._judge(job, channel_no, who, answer)

    async def _probed(
        self, account: Account, channel: Channel, call: _Call, may_ask: Callable[[], bool]
    ) -> Answer | None:
        """One call; in an outage the same recipient tries again and again, one for all."""
        lane = account.lanes[channel.name]
        answer = await self._attempt(account, channel, call, may_ask)
        if answer is None or answer.errcode != SYSTEM_BUSY or not lane.begin_probe():
            return answer
        again = _Call(call.openid, call.body)
        try:
            for _ in range(PROBES):
                answer = await self._attempt(account, channel, again, may_ask, first=True)
                if answer is None or not lane.is_out_of_order:
                    break
        finally:
            lane.end_probe()
        return answer

    async def _attempt(
        self,
        account: Account,
        channel: Channel,
        call: _Call,
        may_ask: Callable[[], bool],
        *,
        first: bool = False,
    ) -> Answer | None:
        """One call, and one more with a new token when WeChat calls the first one stale. None: no call."""
        answer: Answer | None
        if call.heard is not None:
            token, answer = call.heard.token, call.heard.answer
        else:
            token = await account.tokens.token()
            answer = await self._timed(account, channel, (call, token), may_ask, first=first)
        if answer is not None and answer.answered and meaning_of(answer.errcode).action is Action.REFRESH:
            if token != account.stale_token:  # once a token, however many calls found out
                account.stale_token = token
                log.info("token_stale", account=account.name, errcode=answer.errcode)
            account.tokens.discard(token)
            token = await account.tokens.token()
            # A stale token says that nothing was sent: who may not be asked again now is due later.
            answer = await self._timed(account, channel, (call, token), may_ask, first=first)
            if answer is not None and answer.answered and meaning_of(answer.errcode).action is Action.REFRESH:
                account.tokens.discard(token)
        return answer

    async def _timed(
        self,
        account: Account,
        channel: Channel,
        made: tuple[_Call, str],
        may_ask: Callable[[], bool],
        *,
        first: bool,
    ) -> Answer | None:
        """One call, with a token, once the lane has room for it."""
        lane = account.lanes[channel.name]
        ticket = await lane.enter(may_ask, first=first)
        if not ticket:
            return None
        started_s = self._clock.monotonic_s()
        account.pace.started()
        answer = None
        call, token = made
        calling = nullcontext() if account.opt_outs is None else account.opt_outs.calling(call.openid)
        try:
            with calling:
                answer = await channel.attempt(call.body, token, may_ask)
        finally:
            ended_s = self._clock.monotonic_s()
            account.pace.ended(ended_s, ended_s - started_s if answer is not None else None)
            if answer is not None:
                lane.calls.ended(answer, ended_s - started_s)
            leave(lane, ticket, answer)
        return answer

    def _held(self, job: OpenJob, channel_no: int, who: Recipient) -> "Verdict | Fell":
        """The channel takes no calls."""
        lane = job.account.lanes[job.route[channel_no][0].name]
        hold = lane.hold
        assert hold is not None
        if hold.kind is HoldOf.OPERATOR:
            is_last = channel_no + 1 == len(job.route)
            return Halt(hold.reason, channel_no) if is_last else Fell()
        left_s = max(1.0, hold.until_s - self._clock.monotonic_s())
        return Later(min(left_s, LONGEST_DEFERRAL_S), hold.reason, channel_no, who.tries)

    def _no_token_yet(
        self, account: Account, channel_no: int, who: Recipient, error: TokenUnavailableError
    ) -> Verdict:
        if error.needs_operator:
            return Halt(str(error), channel_no, error.retry_in_s)
        return self._no_token(account, channel_no, who, str(error), error.retry_in_s)

    def _no_token(
        self, account: Account, channel_no: int, who: Recipient, reason: str, pause_s: float = TOKEN_PAUSE_S
    ) -> Verdict:
        account.gate.close(pause_s, reason, then_one_by_one=True)
        pause_s = min(pause_s, LONGEST_DEFERRAL_S)
        return Later(pause_s, reason, channel_no, who.tries)

    def _trouble(self, job: OpenJob, channel_no: int, who: Recipient, answer: Answer) -> Verdict:
        channel = job.route[channel_no][0].name
        if answer.refused is not None:
            job.account.gate.failed(f"WeChat cannot be reached: {answer.refused}")
            if who.refusals >= retry.REFUSED_TRIES:
                return Ended(Outcome.FAILED, channel)
            refusals = who.refusals + 1
            pause_s = retry.REFUSED.delay_s(refusals)
            return Later(pause_s, answer.refused, channel_no, who.tries, refusals=refusals)
        reason = answer.unanswered or ""
        job.account.gate.failed(f"WeChat does not answer: {reason}")
        # Never a fallback here: the person might get both messages.
        if job.job.on_unknown is OnUnknown.RESEND and who.doubts == 0:
            return Later(IN_DOUBT_PAUSE_S, reason, channel_no, who.tries, in_doubt=True)
        return Ended(Outcome.UNKNOWN, channel)

    def _by_table(self, answered: "Answered") -> "Verdict | Fell":
        """What the table says of an answer."""
        account = answered.job.account
        _note_way(account, answered.lane, answered.errcode)
        if account.streaks.is_too_long(answered.errcode, answered.who.openid):
            return Halt(f"{answered.reason}, for many recipients", answered.channel_no, ACCOUNT_TRY_S)
        action = answered.meaning.action
        if action is Action.ACCEPT:
            return Ended(Outcome.SENT, answered.channel, msgid=answered.msgid)
        if action is Action.FALLBACK:
            if answered.meaning.by_our_calls and answered.who.doubts:
                return Ended(Outcome.UNKNOWN, answered.channel)  # the next channel's would be their second
            return Fell(answered.errcode)
        return self._others[action](answered)

    def _refresh(self, answered: "Answered") -> Verdict:
        reason = in_words(answered.errcode)
        return self._no_token(answered.job.account, answered.channel_no, answered.who, reason)

    def _slow(self, answered: "Answered") -> Verdict:
        pause_s = self._to_next_minute()
        answered.lane.close(pause_s, answered.reason)
        return Later(pause_s, answered.reason, answered.channel_no, answered.who.tries)

    def _hold_channel(self, answered: "Answered") -> "Verdict | Fell":
        is_quota = answered.meaning.action is Action.QUOTA
        answered.lane.put_on_hold(HoldOf.QUOTA if is_quota else HoldOf.OPERATOR, answered.reason)
        return self._held(answered.job, answered.channel_no, answered.who)

    def _to_next_minute(self) -> float:
        passed_s = self._clock.now().timestamp() % MINUTE_S
        left_s = MINUTE_S - passed_s
        return left_s if left_s >= SHORTEST_SLOWING_S else left_s + MINUTE_S


def leave(lane: Lane, ticket: int, answer: Answer | None) -> None:
    """A call has ended so; None: it was not made."""
    if answer is None:
        lane.leave(ticket)
    elif answer.answered:
        lane.leave(ticket, troubled=answer.errcode in BUSY, busy=answer.errcode == SYSTEM_BUSY)
    else:
        lane.leave(ticket, troubled=True)


def _spared(job: OpenJob, channel_no: int, who: Recipient) -> "Ended | Fell | None":
    """What a call would come to that need not be made. Who may have got the message is never judged so."""
    if who.follower is None or who.doubts:
        return None
    channel = job.route[channel_no][0].name
    errcode = who.follower.spare(channel, has_next=channel_no + 1 < len(job.route))
    if not errcode:
        return None
    is_final = meaning_of(errcode).action is Action.REJECT
    return Ended(Outcome.REJECTED, errcode=errcode) if is_final else Fell(errcode)  # by no channel


def _unless_old(account: Account, who: Recipient, verdict: V, since: int) -> V | Later | Halt:
    """The account's trouble, unless it has been tried again since the call began."""
    if not isinstance(verdict, Halt) or verdict.account_for_s is None:
        return verdict
    if since != account.tried_again:
        return Later(IN_DOUBT_PAUSE_S, verdict.reason, verdict.channel_no, who.tries)
    # At once, not only when its jobs are held on disk: nobody else tries meanwhile.
    account.gate.close(verdict.account_for_s, verdict.reason, then_one_by_one=True)
    return dataclasses.replace(verdict, since=since)


def _note_way(account: Account, lane: Lane, errcode: int) -> None:
    """WeChat has spoken: the way to it is open, and so is the channel if it was held."""
    action = meaning_of(errcode).action
    if action is not Action.HOLD_ACCOUNT:
        account.gate.passed()
    if lane.hold is not None and lane.held is None and action not in HOLDING:
        lane.release()
