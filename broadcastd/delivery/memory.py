"""The memory of one account's followers: which calls are not worth making, and what the others teach.

One guess in SAMPLED is put to the test. When too many of these turn out wrong, the guesses of that kind are
not believed for a while: something has happened that nobody told us of.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from zlib import crc32

import structlog

from broadcastd.batch import Learned
from broadcastd.clock import Clock
from broadcastd.delivery.window import TELLING, Trust, expected, tells
from broadcastd.errcodes import Action, Note, meaning_of
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import NOTHING_KNOWN, Job, Known
from broadcastd.ports import Ledger

log = structlog.get_logger()

SAMPLED = 50
"""One in so many guesses is tried all the same."""

SAMPLES = 50
"""The last ones, by which the guesses are judged."""

FEWEST_SAMPLES = 20
"""Fewer prove nothing."""

WRONG_SHARE = 0.1
"""More wrong guesses than this, and they are not believed."""

DOUBT_S = 3600.0

AT_ONCE = 500
"""Followers of one query."""


class Memory:
    """One account's. What it knows is on disk; this holds only how right it was of late."""

    def __init__(self, account: str, ledger: Ledger, clock: Clock, trust: Trust) -> None:
        self.account = account
        self._ledger = ledger
        self._clock = clock
        self._trust = trust
        self._samples: Mapping[Note, deque[bool]] = {note: deque(maxlen=SAMPLES) for note in Note}
        self._doubted_until_s: dict[Note, float] = {}

    async def recall(self, job: Job, round_no: int, openids: Sequence[str]) -> "Recollection":
        """What is known of these. A ledger that cannot be read costs calls, nothing else."""
        known: dict[str, Known] = {}
        try:
            for at in range(0, len(openids), AT_ONCE):
                known.update(await self._ledger.known(self.account, openids[at : at + AT_ONCE]))
        except LedgerUnavailableError as error:
            log.warning("window_memory_unreadable", account=self.account, error=str(error))
        return Recollection(self, job, round_no, known)

    def expects(self, known: Known, channel: str) -> Note | None:
        """Why a call would be refused."""
        return expected(known, channel, self._clock.now(), self._trust)

    def is_doubted(self, note: Note) -> bool:
        """Whether guesses of this kind are not believed now."""
        return self._clock.monotonic_s() < self._doubted_until_s.get(note, 0.0)

    def judge(self, note: Note, *, was_right: bool) -> None:
        """A guess was put to the test."""
        if self.is_doubted(note):
            return
        samples = self._samples[note]
        samples.append(was_right)
        wrong = samples.count(False)
        if len(samples) < FEWEST_SAMPLES or wrong <= WRONG_SHARE * len(samples):
            return
        log.warning(
            "window_memory_doubted", account=self.account, of=note.value, wrong=wrong, tried=len(samples),
            not_used_for_s=DOUBT_S,
        )  # fmt: skip
        samples.clear()
        self._doubted_until_s[note] = self._clock.monotonic_s() + DOUBT_S

    def lesson(self, openid: str, note: Note, errcode: int) -> Learned:
        """What an answer says."""
        return Learned(self.account, openid, note, errcode, self._clock.now())


class Recollection:
    """What is known of one slice's recipients, for the one job."""

    def __init__(self, memory: Memory, job: Job, round_no: int, known: Mapping[str, Known]) -> None:
        self._memory = memory
        self._job = job
        self._round_no = round_no
        self._known = known

    def of(self, openid: str) -> "Follower":
        """One of them."""
        return Follower(self._memory, openid, self._known.get(openid, NOTHING_KNOWN), self._believes)

    @property
    def knows_nobody(self) -> bool:
        """Whether there is nothing to look up."""
        return not self._known

    def knows(self, openid: str) -> bool:
        """Whether anything is known of this one."""
        return openid in self._known

    def _believes(self, note: Note, openid: str) -> bool:
        """Who is named in a frame, or asked again, is asked: an operator says so."""
        if self._job.to is not None or (note is Note.GONE and self._round_no > 1):
            return False
        return not self.is_sampled(openid)

    def is_sampled(self, openid: str) -> bool:
        """Whether a guess about this one is put to the test: the same one in every try of the job."""
        return crc32(f"{self._job.id} {openid}".encode()) % SAMPLED == 0


class Follower:
    """One recipient in the light of what is known. Gathers what one ask saves and teaches."""

    def __init__(
        self, memory: Memory, openid: str, known: Known, believes: Callable[[Note, str], bool]
    ) -> None:
        self._memory = memory
        self._openid = openid
        self._known = known
        self._believes = believes
        self.saved = 0
        """Calls that were not made."""
        self.learned: list[Learned] = []

    def spare(self, channel: str, *, has_next: bool) -> int:
        """Spare a call on `channel` that WeChat would refuse: the errcode that decides; 0: make it.

        `has_next`: whether there is another channel. What only says "not by this one" decides nothing then.
        """
        errcode = self.would_spare(channel, has_next=has_next)
        self.saved += errcode != 0
        return errcode

    def would_spare(self, channel: str, *, has_next: bool) -> int:
        """What `spare` comes to; nothing is saved yet."""
        if self._known is NOTHING_KNOWN:
            return 0
        note = self._memory.expects(self._known, channel)
        if note is None or (note is not Note.GONE and not has_next):
            return 0
        if self._memory.is_doubted(note) or not self._believes(note, self._openid):
            return 0
        return self._known.gone_code if note is Note.GONE else _STANDS_FOR[note]

    def heard(self, channel: str, errcode: int) -> None:
        """WeChat has answered a call on `channel`."""
        telling = TELLING.get(channel, ())
        meaning = meaning_of(errcode)
        if meaning.note in telling:
            assert meaning.note is not None
            self._judge(channel, accepted=False, note=meaning.note)
            self.learned.append(self._memory.lesson(self._openid, meaning.note, errcode))
        elif meaning.action is Action.ACCEPT and self._known is not NOTHING_KNOWN:
            self._judge(channel, accepted=True)
            self.learned += [
                self._memory.lesson(self._openid, note, 0) for note in telling if tells(self._known, note)
            ]

    def _judge(self, channel: str, *, accepted: bool, note: Note | None = None) -> None:
        guess = self._memory.expects(self._known, channel)
        if guess is not None and (accepted or guess is note):
            self._memory.judge(guess, was_right=not accepted)


_STANDS_FOR = {Note.CLOSED: 45015, Note.NO_CONSENT: 43101}
"""The errcode of a call that was spared."""
