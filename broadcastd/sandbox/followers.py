"""Who follows the account, whose window is open, and what is left of the allowance. Time is handed in."""

from array import array
from enum import IntEnum, StrEnum
from itertools import islice

from broadcastd.sandbox.openids import number_of, openid
from broadcastd.sandbox.options import Options

# Reference, section 1: a click, a scan or a follow opens a minute for 3 messages.
SHORT_ALLOWANCE = 3
SHORT_WINDOW_S = 60.0


class Standing(IntEnum):
    """What somebody is to the account."""

    STRANGER = 0  # not an openid of this account
    FOLLOWS = 1
    LEFT = 2  # unfollowed


class Interaction(StrEnum):
    """What a follower can do to open the customer-service window."""

    MESSAGE = "message"
    CLICK = "click"
    FOLLOW = "follow"
    SCAN = "scan"


class Followers:
    """One row a person, in columns: 17 bytes each, so that a million cost 17 MB.

    Numbered followers have their number as row; others get the next row when they are first seen.
    """

    def __init__(self, options: Options, now: float) -> None:
        self._options = options
        self._numbered = options.numbered
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self.forced: dict[int, int] = {}
        here = options.inside + options.outside
        self._standing = (
            array("B", [Standing.FOLLOWS]) * here + array("B", [Standing.LEFT]) * options.unfollowed
        )
        self._until = array("d", [now + options.window_s]) * options.inside
        self._until += array("d", [0.0]) * (self._numbered - options.inside)
        self._limit = array("I", [options.allowance]) * self._numbered
        self._spent = array("I", [0]) * self._numbered

    def row(self, name: str, now: float) -> int:
        """The row of an openid, made when it has none yet."""
        row = self._rows.get(name)
        if row is not None:
            return row
        number = number_of(name)
        if 0 <= number < self._numbered:
            return number
        return self._add(name, now)

    def name(self, row: int) -> str:
        """The openid of a row."""
        return openid(row) if row < self._numbered else self._names[row - self._numbered]

    def standing(self, row: int) -> Standing:
        """What the person is to the account."""
        return Standing(self._standing[row])

    def follows(self, row: int) -> bool:
        """Whether the person follows the account."""
        return self._standing[row] == Standing.FOLLOWS

    @property
    def total(self) -> int:
        """How many follow the account."""
        return self._standing.tobytes().count(bytes([Standing.FOLLOWS]))

    def following(self, first: int, limit: int) -> list[int]:
        """The rows of up to `limit` followers, from row `first` on."""
        rows = range(first, len(self._standing))
        return list(islice((row for row in rows if self._standing[row] == Standing.FOLLOWS), limit))

    def spend(self, row: int, now: float) -> int:
        """Take one message of the follower's allowance: 0, or 45015 (window closed), or 45047 (used up)."""
        if now >= self._until[row]:
            return 45015
        if self._limit[row] and self._spent[row] >= self._limit[row]:
            return 45047
        self._spent[row] += 1
        return 0

    def interact(self, row: int, kind: Interaction, now: float) -> None:
        """The follower does something: count and window begin anew, at the larger of old and new.

        "The larger" is documented for mini programs and assumed for accounts (reference, section 1).
        """
        if kind is Interaction.FOLLOW:
            self._standing[row] = Standing.FOLLOWS
        is_message = kind is Interaction.MESSAGE
        limit = self._options.allowance if is_message else min(SHORT_ALLOWANCE, self._options.allowance)
        until = now + (self._options.window_s if is_message else SHORT_WINDOW_S)
        if now < self._until[row] and self._options.allowance:
            limit = max(limit, self._limit[row])
        self._until[row] = max(until, self._until[row])
        self._limit[row] = limit
        self._spent[row] = 0

    def close_window(self, row: int) -> None:
        """The follower stands outside the window from now on."""
        self._until[row] = 0.0

    def leave(self, row: int) -> None:
        """The follower unfollows the account."""
        self._standing[row] = Standing.LEFT

    def force(self, row: int, errcode: int) -> None:
        """Answer every send to the person with `errcode`; 0 ends that."""
        self.forced.pop(row, None)
        if errcode:
            self.forced[row] = errcode

    def describe(self, row: int, now: float) -> dict[str, object]:
        """What is known of a person, for the control."""
        limit = self._limit[row]
        return {
            "openid": self.name(row),
            "standing": self.standing(row).name.lower(),
            "window_open": now < self._until[row],
            "window_left_s": max(0.0, round(self._until[row] - now, 3)),
            "spent": self._spent[row],
            "allowance": limit,
            "errcode": self.forced.get(row, 0),
        }

    def _add(self, name: str, now: float) -> int:
        row = self._numbered + len(self._names)
        inside = self._options.takes_anyone
        self._rows[name] = row
        self._names.append(name)
        self._standing.append(Standing.FOLLOWS if inside else Standing.STRANGER)
        self._until.append(now + self._options.window_s if inside else 0.0)
        self._limit.append(self._options.allowance)
        self._spent.append(0)
        return row
