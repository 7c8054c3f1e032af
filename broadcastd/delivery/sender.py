"""One recipient through a job's channels, in order. What an errcode means is a table (`errcodes`)."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.pace import Pace
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.errors import TokenUnavailableError
from broadcastd.model import OnUnknown
from broadcastd.outcomes import Answer, Ended, Halt, Later, Outcome, Verdict
from broadcastd.ports import Channel

log = structlog.get_logger()

TOKEN_PAUSE_S = 5
"""Before a token is looked for again that was refused right after reading it."""

IN_DOUBT_PAUSE_S = 1
"""Before a recipient that got no answer is asked once more."""

NEXT_MINUTE_S = 60
"""45011 says: slower, again next minute."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom to ask, and what is known of former tries."""

    id: int
    openid: str
    channel_no: int = 0
    tries: int = 0
    doubts: int = 0
    refusals: int = 0
    was_deferred: bool = False


class Sender:
    """Asks WeChat. Holds no state of its own but the pace."""

    def __init__(self, pace: Pace, clock: Clock) -> None:
        self._pace = pace
        self._clock = clock

    async def ask(self, job: OpenJob, who: Recipient, may_ask: Callable[[], bool]) -> Verdict:
        """Try the channels in turn until one decides. Never raises for what WeChat or the network do.

        `may_ask` is asked right before each call: a job may be paused while one recipient's channels are
        gone through, or while a token is waited for.
        """
        errcode = 0
        for channel_no in range(who.channel_no, len(job.route)):
            channel, message = job.route[channel_no]
            body = message.body(who.openid, job.message_id(who.id))
            try:
                answer = await self._attempt(job.account, channel, body, may_ask)
            except TokenUnavailableError as error:
                return self._no_token(job.account, channel_no, who, str(error), error.retry_in_s)
            if answer is None:
                return Later(0.0, "stopped", channel_no, who.tries, refusals=who.refusals)
            if not answer.answered:
                return self._trouble(job, channel_no, who, answer)
            job.account.gate.passed()
            errcode = answer.errcode
            if meaning_of(errcode).action is not Action.FALLBACK:
                return self._by_table(job, channel_no, who, answer)
        return Ended(Outcome.REJECTED, job.route[-1][0].name, errcode)

    async def _attempt(
        self, account: Account, channel: Channel, body: bytes, may_ask: Callable[[], bool]
    ) -> Answer | None:
        """One call, and one more with a new token when WeChat calls the first one stale. None: no call."""
        token = await account.tokens.token()
        if not may_ask():
            return None
        answer = await self._timed(channel, body, token, may_ask)
        if answer is not None and answer.answered and meaning_of(answer.errcode).action is Action.REFRESH:
            log.info("token_stale", account=account.name, errcode=answer.errcode)
            account.tokens.discard(token)
            token = await account.tokens.token()
            # A stale token says that nothing was sent: who may not be asked again now is due later.
            return await self._timed(channel, body, token, may_ask) if may_ask() else None
        return answer

    async def _timed(
        self, channel: Channel, body: bytes, token: str, may_ask: Callable[[], bool]
    ) -> Answer | None:
        started_s = self._clock.monotonic_s()
        self._pace.started()
        answer = None
        try:
            answer = await channel.attempt(body, token, may_ask)
            return answer
        finally:
            ended_s = self._clock.monotonic_s()
            self._pace.ended(ended_s, ended_s - started_s if answer is not None else None)

    def _no_token(
        self, account: Account, channel_no: int, who: Recipient, reason: str, pause_s: float = TOKEN_PAUSE_S
    ) -> Verdict:
        account.gate.close(pause_s, reason)
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

    def _by_table(self, job: OpenJob, channel_no: int, who: Recipient, answer: Answer) -> Verdict:
        errcode, channel = answer.errcode, job.route[channel_no][0].name
        match meaning_of(errcode).action:
            case Action.ACCEPT:
                return Ended(Outcome.SENT, channel)
            case Action.REJECT:
                return Ended(Outcome.REJECTED, channel, errcode)
            case Action.REFRESH:
                return self._no_token(job.account, channel_no, who, in_words(errcode))
            case Action.SLOW:
                job.account.gate.close(NEXT_MINUTE_S, in_words(errcode))
                return Later(NEXT_MINUTE_S, in_words(errcode), channel_no, who.tries)
            case Action.HOLD:
                return Halt(f"{in_words(errcode)} (channel {channel})", channel_no)
            case Action.RETRY | Action.FALLBACK:
                return self._once_more(channel_no, channel, who, errcode)

    def _once_more(self, channel_no: int, channel: str, who: Recipient, errcode: int) -> Verdict:
        most = retry.SYSTEM_BUSY_TRIES if errcode == -1 else retry.UNKNOWN_CODE_TRIES
        if who.tries >= most:
            return Ended(Outcome.FAILED, channel, errcode)
        pause_s = retry.SYSTEM_BUSY.delay_s(who.tries + 1)
        return Later(pause_s, in_words(errcode), channel_no, who.tries + 1)
