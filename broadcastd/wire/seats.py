"""Who may stay connected. Pure: no sockets, no time of its own.

Whoever comes gets a seat, also when all are taken: then whoever has been idle longest gives theirs up. So
thousands of idle connections keep nobody out. A frame that is being answered is never cut for another's sake.
When nobody is idle, whoever has left a reply unread for STUCK_S gives way, then whoever has followed a job
(`tail`) for so long, and is waiting for its next line.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

STUCK_S = 2.0


class Seat:
    """One connection's. Taken as idle."""

    def __init__(self, seats: "Seats", address: str, hang_up: Callable[[], None]) -> None:
        self._seats = seats
        self.address = address
        self.hang_up = hang_up

    def idle(self) -> None:
        """Between frames, or in the midst of sending one, since now."""
        self._seats.move(self, self._seats.idle)

    def busy(self) -> None:
        """Its frame is being answered."""
        self._seats.move(self, None)

    def unread(self) -> None:
        """Its reply is written, and not taken, since now."""
        self._seats.move(self, self._seats.unread)

    def following(self, since_s: float) -> None:
        """Of a reply of many lines, which began at `since_s`, the next one is waited for."""
        self._seats.move(self, self._seats.following, since_s)

    def leave(self) -> None:
        """The connection has ended."""
        self._seats.leave(self)


class Seats:
    """All of one listener. `idle`, `unread` and `following`: since when."""

    def __init__(self, most: int, most_per_address: int, now_s: Callable[[], float]) -> None:
        """`most_per_address`: 0: as many as there are."""
        self.most = most
        self.most_per_address = most_per_address
        self._now_s = now_s
        self._taken: set[Seat] = set()
        self._by_address: Counter[str] = Counter()
        self.idle: dict[Seat, float] = {}
        self.unread: dict[Seat, float] = {}
        self.following: dict[Seat, float] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, address: str, hang_up: Callable[[], None]) -> Seat | None:
        """A seat; None when all are taken, and nobody there is idle. `hang_up`: when another needs it."""
        if self.most_per_address and self._by_address[address] >= self.most_per_address:
            if not self._make_room(one for one in self._dispensable() if one.address == address):
                return None
        elif len(self._taken) >= self.most and not self.make_room():
            return None
        seat = Seat(self, address, hang_up)
        self._taken.add(seat)
        self._by_address[address] += 1
        self.idle[seat] = self._now_s()
        return seat

    def make_room(self) -> bool:
        """Hang up who has been idle longest; whether there was somebody."""
        return self._make_room(self._dispensable())

    def _make_room(self, candidates: Iterable[Seat]) -> bool:
        seat = next(iter(candidates), None)
        if seat is None:
            return False
        self.leave(seat)
        seat.hang_up()
        return True

    def _dispensable(self) -> Iterator[Seat]:
        long_ago_s = self._now_s() - STUCK_S
        others = chain(self.unread.items(), self.following.items())
        return chain(self.idle, (one for one, since_s in others if since_s <= long_ago_s))

    def move(self, seat: Seat, to: dict[Seat, float] | None, since_s: float | None = None) -> None:
        """Note what a seat's connection does now, or since `since_s`."""
        for state in (self.idle, self.unread, self.following):
            state.pop(seat, None)
        if to is not None and seat in self._taken:
            to[seat] = self._now_s() if since_s is None else since_s

    def leave(self, seat: Seat) -> None:
        """Free a seat; nothing happens when it is free already."""
        if seat in self._taken:
            self.move(seat, None)
            self._taken.remove(seat)
            self._by_address[seat.address] -= 1
            if not self._by_address[seat.address]:
                del self._by_address[seat.address]
