"""Scripted parts for tests: a clock that only tests move, channels, tokens and a recorder that do as told."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from broadcastd.batch import DeferralRow, GatheredRow, Learned, OutcomeRow, SentOn, SentRow, SliceMark
from broadcastd.clock import from_ms, to_ms
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.gate import Gate
from broadcastd.delivery.inline_audience import InlineAudience
from broadcastd.delivery.lane import Lane
from broadcastd.delivery.pace import Pace
from broadcastd.errors import TokenUnavailableError
from broadcastd.model import Books, Job, NewJob, OnUnknown, Request
from broadcastd.notices import Notice
from broadcastd.outcomes import Answer, Outcome
from broadcastd.ports import Rendered
from broadcastd.states import JobState
from broadcastd.transport_ports import CallSource, Raw

T0 = datetime(2026, 1, 31, 0, 0, 0, tzinfo=UTC)


class FakeClock:
    """Implements `Clock`. Sleeping moves it, at once."""

    def __init__(self, now: datetime = T0) -> None:
        self._start = now
        self._passed = timedelta()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + self._passed

    def now_ms(self) -> int:
        return to_ms(self.now())

    def monotonic_s(self) -> float:
        return 1000.0 + self._passed.total_seconds()

    def advance(self, seconds: float) -> None:
        self._passed += timedelta(seconds=seconds)

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        # A microsecond at the least: what is shorter would be rounded to nothing, and be slept for ever.
        self.advance(max(delay_s, 1e-6) if delay_s > 0 else 0)
        await asyncio.sleep(0)


@dataclass
class PlainMessage:
    """Implements `Message`."""

    text: str
    names_itself = True

    def body(self, openid: str, message_id: str) -> bytes:
        return f"{openid}|{message_id}|{self.text}".encode()


OK = Answer()
Reply = Answer | Callable[[str], Answer]


class ScriptedChannel:
    """Implements `Channel`: answers from the script, then `default`; notes each attempt.

    `hold` makes attempts wait until `release` is called so often.
    """

    def __init__(self, name: str, script: Iterable[Answer] = (), default: Answer = OK) -> None:
        self.name = name
        self.templates: tuple[str, ...] = ()
        self.path = f"/{name}"
        self.script = deque(script)
        self.default = default
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.message_ids: list[str] = []
        self.hold = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many attempts are under way."""
        return len(self._waiting)

    def release(self, many: int = 1) -> None:
        for _ in range(min(many, len(self._waiting))):
            self._waiting.popleft().set_result(None)

    def render(self, request: Request, now: datetime) -> Rendered:
        del now
        return Rendered(request.content)

    def message(self, rendered: str) -> PlainMessage:
        return PlainMessage(rendered)

    async def attempt(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        del may_ask  # a script has its call at once
        openid, message_id, _ = body.decode().split("|", 2)
        self.asked.append(openid)
        self.tokens.append(token)
        self.message_ids.append(message_id)
        if self.hold:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        return self.script.popleft() if self.script else self.default

    async def make_calls(self, source: CallSource, token: str) -> None:
        while (body := source.next_call()) is not None:
            source.ended(await self.attempt(body, token, source.still))

    @staticmethod
    def read(raw: Raw) -> Answer:
        assert isinstance(raw, Answer)
        return raw


class ScriptedList(ScriptedChannel):
    """A channel whose messages are `ListMessage`s; keeps each list and its `clientmsgid`."""

    def __init__(self, name: str = "mass", script: Iterable[Answer] = (), default: Answer = OK) -> None:
        super().__init__(name, script, default)
        self.lists: list[tuple[str, list[str]]] = []

    def message(self, rendered: str) -> "PlainList":
        return PlainList(rendered)

    async def attempt(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        clientmsgid, *openids = body.decode().split(",")
        self.lists.append((clientmsgid, openids))
        return await super().attempt(f"{clientmsgid}|{clientmsgid}|".encode(), token, may_ask)


@dataclass
class PlainList(PlainMessage):
    """Implements `ListMessage`."""

    def list_body(self, openids: Sequence[str], message_id: str) -> bytes:
        return ",".join([message_id, *openids]).encode()


class FakeTokens:
    """Implements `TokenSource`: hands out `token-1`, and after each discard of it the next."""

    def __init__(self) -> None:
        self.number = 1
        self.discarded: list[str] = []
        self.unavailable = ""
        self.retry_in_s = 7.0
        self.breaks_at_discard = ""

    @property
    def trouble(self) -> str:
        return self.unavailable

    async def token(self) -> str:
        if self.unavailable:
            raise TokenUnavailableError(self.unavailable, self.retry_in_s)
        return f"token-{self.number}"

    @property
    def present(self) -> str | None:
        return None if self.unavailable else f"token-{self.number}"

    async def look(self) -> str:
        await self.token()
        return ""

    def discard(self, token: str) -> None:
        self.discarded.append(token)
        if token == f"token-{self.number}":
            self.number += 1
        self.unavailable = self.breaks_at_discard

    def ask_again(self) -> None:
        self.retry_in_s = 0.0

    async def keep(self) -> None:
        pass


class Told:
    """Implements `Notices`: keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)

    @property
    def kinds(self) -> list[str]:
        """`job_held j1`, `job_held j1 over`, in order."""
        return [
            f"{one.kind.value} {one.about}".strip() + " over" * one.over + " known" * one.known
            for one in self.notices
        ]


@dataclass
class FakeRecorder:
    """Stands for `Recorder`: keeps what it is told. With `hold` a mark waits for `grant`."""

    marks: list[SliceMark] = field(default_factory=list)
    outcomes: list[OutcomeRow] = field(default_factory=list)
    deferrals: list[DeferralRow] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)
    saved: Counter[int] = field(default_factory=Counter)
    gathered: list[GatheredRow] = field(default_factory=list)
    hold: bool = False
    refuse_from: int | None = None
    """The number (from 0) of the first mark that is refused: the lease was lost."""
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    on_mark: Callable[[SliceMark], None] = lambda mark: None

    async def mark(self, make: Callable[[], SliceMark | None]) -> bool:
        mark = make()
        if mark is None:
            return True
        number = len(self.marks)
        self.marks.append(mark)
        self.on_mark(mark)
        if self.hold:
            granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(granted)
            await granted
        else:
            await asyncio.sleep(0)
        return self.refuse_from is None or number < self.refuse_from

    def grant(self) -> None:
        self.waiting.popleft().set_result(None)

    def end(self, row: OutcomeRow) -> None:
        self.outcomes.append(row)

    def sent(self, on: SentOn, row: SentRow) -> None:
        one, openid, at_ms, msgid = row
        at = from_ms(at_ms)
        self.outcomes.append(
            OutcomeRow(on.job_no, one, openid, Outcome.SENT, on.channel, 0, at, False, on.round_no, msgid)
        )

    def put_off(self, row: DeferralRow) -> None:
        self.deferrals.append(row)

    def learn(self, learned: Sequence[Learned]) -> None:
        self.learned.extend(learned)

    def save(self, job_no: int, calls: int) -> None:
        self.saved[job_no] += calls

    def gather(self, row: GatheredRow, put_off: DeferralRow) -> None:
        self.gathered.append(row)
        self.put_off(put_off)


def new_job(now: datetime = T0, *, id: str = "j0", on_unknown: OnUnknown = OnUnknown.RESEND,
            content: str = "a post", **request: object) -> NewJob:  # fmt: skip
    """A job as intake hands it to the ledger."""
    asked = Request(content=content, **request)  # type: ignore[arg-type]
    messages = {"custom": content, "template": "{}"}
    return NewJob(id, asked, now, ("custom", "template"), messages, on_unknown)


def a_job(on_unknown: OnUnknown = OnUnknown.RESEND) -> Job:
    """A job as the ledger holds it, running."""
    return Job(
        no=1, id="j0123456789ab", account="default", state=JobState.RUNNING, reason="", content="a post",
        phone="", key=None, ref=None, flag=None, to=None, channels=("custom", "template"), messages={},
        on_unknown=on_unknown, accepted_at=T0, books=Books(),
    )  # fmt: skip


def open_job(
    clock: FakeClock, *channels: ScriptedChannel, on_unknown: OnUnknown = OnUnknown.RESEND
) -> OpenJob:
    """A job on its way through `channels`, in this order, with `FakeTokens`."""
    account = Account(
        "default",
        {one.name: one for one in channels},
        InlineAudience([]),
        FakeTokens(),
        Gate(clock),
        {one.name: Lane("default", one.name, clock, 960) for one in channels},
        Pace(60, 16, 12_000, 8),
        ZoneInfo("Asia/Shanghai"),
        0.2,
        on_unknown,
    )
    route = tuple((one, one.message("a post")) for one in channels)
    lists = [no for no, one in enumerate(channels) if isinstance(one, ScriptedList)]
    return OpenJob(
        a_job(on_unknown),
        account,
        account.audience,
        route,
        JobState.RUNNING,
        gathers_at=lists[0] if lists else None,
    )


async def settle_down(turns: int = 20) -> None:
    """Let every coroutine run that can: no time passes, only turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
