"""The record of every call, in columns: about 50 bytes a call, so that a million calls cost 50 MB."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import merge
from itertools import islice

from broadcastd.sandbox.endpoints import NAMES

_ENDPOINT_NO = {name: number for number, name in enumerate(NAMES)}
# Above 2^53, as in life: whoever reads it as a float loses it (reference, section 0).
FIRST_MSGID = 3_557_254_367_000_000_000
# Different texts are kept whole up to so much in all; of later ones a digest is kept.
MAX_TEXTS_BYTES = 16 << 20
_DIGEST_BIT = 1 << 63
_SHOWN_REPEATED = 20
_TOKEN_OK, _DELIVERED, _REPEAT, _PROCESSED = 1, 2, 4, 8


@dataclass(slots=True)
class Entry:
    """One call while it is being answered.

    `processed` is false when an outage struck before the call was looked at: then `errcode` says nothing.
    `row` is -1 when no openid was named; `rows` are the followers whom a mass message reached. `answered_at`
    is 0 while there is no answer, and stays 0 when an outage took its place.
    """

    at: float
    endpoint: str
    outage: str = ""
    row: int = -1
    rows: Sequence[int] = ()
    errcode: int = 0
    token_ok: bool = False
    delivered: bool = False
    repeat: bool = False
    processed: bool = True
    text: str = ""
    client_msg_id: str = ""
    answered_at: float = 0.0

    @property
    def label(self) -> str:
        """How the call is counted: the outage that the caller met, else the errcode that it read."""
        return self.outage or str(self.errcode)


class Texts:
    """Different texts, each kept once."""

    def __init__(self, max_bytes: int = MAX_TEXTS_BYTES) -> None:
        self._left_bytes = max_bytes
        self._texts: list[str] = [""]
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """A number to find the text by; that of a digest when there is no room."""
        number = self._numbers.get(text)
        if number is None:
            raw = text.encode("utf-8", "surrogatepass")
            if len(raw) > self._left_bytes:
                return _DIGEST_BIT | int.from_bytes(blake2b(raw, digest_size=8).digest(), "big")
            self._left_bytes -= len(raw)
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return number

    def text(self, number: int) -> str:
        """The text, or `digest:` and 16 hexadecimal digits."""
        return f"digest:{number ^ _DIGEST_BIT:016x}" if number & _DIGEST_BIT else self._texts[number]

    def numbers_with(self, part: str) -> set[int]:
        """The numbers of all texts kept whole that contain `part`."""
        return {number for number, text in enumerate(self._texts) if part in text}


class Deliveries:
    """How many messages each follower really got."""

    def __init__(self) -> None:
        self._counts = array("I")
        self.total = 0
        self.reached = 0
        self.repeated = 0
        self.first_repeated: list[int] = []

    def add(self, row: int) -> None:
        """One more message for the follower in `row`."""
        if row >= len(self._counts):
            # Half as much again, so that a million new followers are not a million enlargements.
            self._counts.extend(array("I", [0]) * (row - len(self._counts) + 64 + row // 2))
        self._counts[row] += 1
        self.total += 1
        if self._counts[row] == 1:
            self.reached += 1
        elif self._counts[row] == 2:
            self.repeated += 1
            if len(self.first_repeated) < _SHOWN_REPEATED:
                self.first_repeated.append(row)

    def count(self, row: int) -> int:
        """What the follower in `row` got."""
        return self._counts[row] if row < len(self._counts) else 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(row, count) of everybody who got something."""
        return ((row, count) for row, count in enumerate(self._counts) if count)


class Calls:
    """All calls in the order of their arrival, numbered from 0."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.delivered: dict[str, int] = {}
        self.deliveries = Deliveries()
        self.repeats = 0
        self._texts = Texts()
        self._at = array("d")
        self._answered_at = array("d")
        self._endpoint = array("B")
        self._row = array("i")
        self._errcode = array("i")
        self._flags = array("B")
        self._text = array("Q")
        self._outages: dict[int, str] = {}
        self._rows: dict[int, Sequence[int]] = {}
        # Message ids are all different: one after the other in one buffer, with the end of each.
        self._ids = bytearray()
        self._ids_end = array("Q")

    def __len__(self) -> int:
        return len(self._at)

    def add(self, entry: Entry) -> None:
        """Record a call, and what it delivered; its number is the length before."""
        if entry.outage:
            self._outages[len(self._at)] = entry.outage
        if entry.rows:
            self._rows[len(self._at)] = entry.rows
        self._at.append(entry.at)
        self._answered_at.append(entry.answered_at)
        self._endpoint.append(_ENDPOINT_NO[entry.endpoint])
        self._row.append(entry.row)
        self._errcode.append(entry.errcode)
        self._flags.append(
            entry.token_ok * _TOKEN_OK
            | entry.delivered * _DELIVERED
            | entry.repeat * _REPEAT
            | entry.processed * _PROCESSED
        )
        self._text.append(self._texts.number(entry.text))
        if entry.client_msg_id:
            self._ids += entry.client_msg_id.encode("utf-8", "surrogatepass")
        self._ids_end.append(len(self._ids))
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        key = (entry.endpoint, entry.label)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.repeats += entry.repeat
        if entry.delivered:
            rows = entry.rows or (entry.row,)
            self.delivered[entry.endpoint] = self.delivered.get(entry.endpoint, 0) + len(rows)
            for row in rows:
                self.deliveries.add(row)

    def answer(self, number: int, at: float) -> None:
        """Call `number` is being answered."""
        self._answered_at[number] = at

    def answered(self, since: float, until: float) -> int:
        """How many calls were answered from `since` to `until`, both in seconds since 1970."""
        return sum(at > 0 and since <= at <= until for at in self._answered_at)

    def deliveries_with(self, part: str) -> Deliveries:
        """What each follower got of messages whose text contains `part`."""
        wanted = self._texts.numbers_with(part)
        found = Deliveries()
        for number, (text, flags, row) in enumerate(zip(self._text, self._flags, self._row, strict=True)):
            if flags & _DELIVERED and text in wanted:
                for each in self._rows.get(number, (row,)):
                    found.add(each)
        return found

    def at(self, number: int) -> float:
        """When call `number` came, in seconds since 1970."""
        return self._at[number]

    def row(self, number: int) -> int:
        """The follower's row of call `number`, or -1."""
        return self._row[number]

    def entry(self, number: int) -> Entry:
        """Call `number` again."""
        flags = self._flags[number]
        start = self._ids_end[number - 1] if number else 0
        return Entry(
            at=self._at[number],
            endpoint=NAMES[self._endpoint[number]],
            outage=self._outages.get(number, ""),
            row=self._row[number],
            rows=self._rows.get(number, ()),
            errcode=self._errcode[number],
            token_ok=bool(flags & _TOKEN_OK),
            delivered=bool(flags & _DELIVERED),
            repeat=bool(flags & _REPEAT),
            processed=bool(flags & _PROCESSED),
            text=self._texts.text(self._text[number]),
            client_msg_id=self._ids[start : self._ids_end[number]].decode("utf-8", "surrogatepass"),
            answered_at=self._answered_at[number],
        )

    def numbers(self, since: int, limit: int, row: int | None = None) -> list[int]:
        """Up to `limit` call numbers from `since` on, of one follower when `row` is given."""
        if row is None:
            return list(range(since, min(len(self), since + limit)))
        many = (number for number, rows in self._rows.items() if number >= since and row in rows)
        return list(islice(merge(self._numbers_of(row, since), many), limit))

    def _numbers_of(self, row: int, number: int) -> Iterator[int]:
        try:
            while True:
                number = self._row.index(row, number)
                yield number
                number += 1
        except ValueError:
            return
