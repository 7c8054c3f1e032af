"""Who gives way to whom when all places are taken."""

import pytest

from broadcastd.wire.seats import STUCK_S, Seat, Seats


class Room:
    """Seats, a clock, and who was hung up."""

    def __init__(self, most: int, most_per_address: int = 0) -> None:
        self.now_s = 0.0
        self.gone: list[str] = []
        self.seats = Seats(most, most_per_address, lambda: self.now_s)

    def come(self, name: str, address: str = "a") -> Seat | None:
        self.now_s += 1
        return self.seats.take(address, lambda: self.gone.append(name))

    def seat(self, name: str, address: str = "a") -> Seat:
        seat = self.come(name, address)
        assert seat is not None
        return seat


def test_who_has_been_idle_longest_gives_way() -> None:
    room = Room(3)
    first, _, _ = room.seat("first"), room.seat("second"), room.seat("third")
    first.busy()
    first.idle()  # has been answered meanwhile: the second is idle for longer
    room.seat("fourth")
    room.seat("fifth")
    assert room.gone == ["second", "third"]
    assert len(room.seats) == 3


def test_a_frame_that_is_being_answered_is_never_cut() -> None:
    room = Room(2)
    room.seat("one").busy()
    two = room.seat("two")
    two.busy()
    assert room.come("three") is None
    assert room.gone == []
    two.idle()
    assert room.come("four") is not None
    assert room.gone == ["two"]


def test_who_leaves_a_reply_unread_gives_way_after_a_while_and_last() -> None:
    room = Room(2)
    room.seat("stuck").unread()
    room.seat("busy").busy()
    room.now_s = STUCK_S - 0.5  # it is a second later when somebody comes
    assert room.come("too soon") is None
    room.now_s = STUCK_S
    room.seat("newcomer")
    assert room.gone == ["stuck"]


def test_a_half_frame_counts_from_its_first_byte() -> None:
    room = Room(2)
    half, other = room.seat("half"), room.seat("other")
    room.now_s += 1
    half.idle()
    room.seat("newcomer")
    assert room.gone == ["other"]
    other.leave()  # its task ends a little later: nothing is freed twice
    assert len(room.seats) == 2


def test_an_address_has_a_limit_of_its_own() -> None:
    room = Room(10, most_per_address=2)
    room.seat("one", "a")
    room.seat("elsewhere", "b")
    room.seat("two", "a")
    room.seat("three", "a")
    assert room.gone == ["one"]
    for seat in list(room.seats.idle):
        seat.busy()
    assert room.come("four", "a") is None
    assert room.come("other", "b") is not None


def test_the_limits_may_change_while_they_are_in_use() -> None:
    room = Room(3)
    for name in "abc":
        room.seat(name)
    room.seats.most = 2
    room.seat("d")
    assert room.gone == ["a"]


def test_who_follows_a_job_gives_way_after_all_others() -> None:
    room = Room(3)
    follower, reader, idle = room.seat("follower"), room.seat("reader"), room.seat("idle")
    follower.following(since_s=0)
    reader.unread()
    idle.idle()
    room.now_s += STUCK_S
    for name in ("x", "y", "z"):
        room.seat(name).busy()
    assert room.gone == ["idle", "reader", "follower"]
    assert room.come("too many") is None


@pytest.mark.parametrize("state", ["idle", "unread", "busy"])
def test_who_has_left_is_remembered_nowhere(state: str) -> None:
    room = Room(2)
    seat = room.seat("one")
    getattr(seat, state)()
    seat.leave()
    getattr(seat, state)()
    assert not room.seats.idle
    assert not room.seats.unread
    assert len(room.seats) == 0
