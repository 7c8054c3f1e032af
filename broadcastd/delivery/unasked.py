"""Who of a slice is still to be let through, kept small.

60 slices of 500 are 30,000 rows: 5.7 MB as tuples, 1.1 MB packed. A block at a time is unpacked, right before
its people are asked; both ways together cost 0.2 µs a row.
"""

import marshal
from collections import deque
from collections.abc import Sequence

Row = tuple[int, str]
"""Id and openid."""

BLOCK = 32
"""Rows; a task lets 8 or 16 through at a time."""
FORMAT = 2
"""Of marshal: the later ones look for repeats, of which there are none."""


class Unasked:
    """Rows in the order of their ids."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._count = len(rows)
        self._blocks = _packed(rows)
        self._first: list[Row] = []
        """The block that was unpacked last, what is left of it."""

    def __len__(self) -> int:
        return self._count

    def take(self, most: int) -> Sequence[Row]:
        """The first ones, up to so many."""
        most = max(0, most)
        while len(self._first) < most and self._blocks:
            self._first += marshal.loads(self._blocks.popleft())  # noqa: S302 - packed above
        taken = self._first[:most]
        del self._first[:most]
        self._count -= len(taken)
        return taken

    def take_half(self) -> Sequence[Row]:
        """The second half; of an odd number, the smaller one."""
        rows = self.take(len(self))
        keep = (len(rows) + 1) // 2
        self._count = keep
        self._blocks = _packed(rows[:keep])
        return rows[keep:]


def _packed(rows: Sequence[Row]) -> deque[bytes]:
    return deque(marshal.dumps(list(rows[at : at + BLOCK]), FORMAT) for at in range(0, len(rows), BLOCK))
