"""Who of a slice is still to be let through, kept small: 60 slices of 500 are 30,000 rows.

5.7 MB as tuples, 1.1 MB so: ids of 8 bytes each, and the openids, which are all of one length, as one text.
"""

from array import array
from collections.abc import Sequence

Row = tuple[int, str]
"""Id and openid."""


class Unasked:
    """Rows in the order of their ids: taken from the front, given away from the end."""

    def __init__(self, rows: Sequence[Row]) -> None:
        openids = [row[1] for row in rows]
        widths = set(map(len, openids))
        self._ids = array("q", [row[0] for row in rows])
        self._width = widths.pop() if len(widths) == 1 else 0
        """Of each openid; 0: they are of several lengths, and kept as they are."""
        self._text = "".join(openids) if self._width else ""
        self._openids = [] if self._width else openids
        self._next, self._end = 0, len(rows)

    def __len__(self) -> int:
        return self._end - self._next

    def take(self, most: int) -> Sequence[Row]:
        """The first ones, up to so many."""
        at = self._next
        self._next = min(self._end, at + max(0, most))
        return self._rows(at, self._next)

    def take_half(self) -> Sequence[Row]:
        """The second half; of an odd number, the smaller one."""
        end = self._end
        self._end -= len(self) // 2
        return self._rows(self._end, end)

    def _rows(self, at: int, end: int) -> Sequence[Row]:
        text, width = self._text, self._width
        if width:
            openids = [text[begin : begin + width] for begin in range(at * width, end * width, width)]
        else:
            openids = self._openids[at:end]
        return list(zip(self._ids[at:end], openids, strict=True))
