"""Who of a slice is still to be let through, kept small, and no longer than until then.

60 slices of 500 are 30,000 rows: 5.7 MB as tuples, 2.9 MB so. (Packed with marshal it would be 1.1 MB, for
0.2 µs a row.)
"""

from array import array
from collections.abc import Sequence

Row = tuple[int, str]
"""Id and openid."""


class Unasked:
    """Rows in the order of their ids. The columns have the last first: who is taken is cut off at the end."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._ids = array("q", [row[0] for row in reversed(rows)])
        self._openids = [row[1] for row in reversed(rows)]

    def __len__(self) -> int:
        return len(self._ids)

    def take(self, most: int) -> Sequence[Row]:
        """The first ones, up to so many."""
        at = len(self) - min(max(0, most), len(self))
        taken = list(zip(reversed(self._ids[at:]), reversed(self._openids[at:]), strict=True))
        del self._ids[at:], self._openids[at:]
        return taken

    def take_half(self) -> Sequence[Row]:
        """The second half; of an odd number, the smaller one."""
        half = len(self) // 2
        taken = list(zip(reversed(self._ids[:half]), reversed(self._openids[:half]), strict=True))
        del self._ids[:half], self._openids[:half]
        return taken
