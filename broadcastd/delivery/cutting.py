"""How frozen ids are cut into slices. Pure."""

import itertools
from collections.abc import Sequence

from broadcastd.frozen import Ids

SMALLEST_SLICE = 8
"""Below this a slice costs more than it spreads: one query and one lease for a single write-ahead chunk."""


class NotAscendingError(Exception):
    """An id that is not above the one before it."""

    def __init__(self, repeated: int) -> None:
        super().__init__(repeated)
        self.repeated = repeated


def cut_whole(ids: Sequence[int], size: int) -> tuple[list[Sequence[int]], Sequence[int]]:
    """Slices of exactly `size`, and what is left."""
    whole = len(ids) // size * size
    return [ids[at : at + size] for at in range(0, whole, size)], ids[whole:]


def cut_evenly(ids: Sequence[int], tasks: int, size: int) -> list[Sequence[int]]:
    """Slices of nearly the same length, at most `size`, so many that all tasks have work."""
    if not ids:
        return []
    most = max(1, len(ids) // SMALLEST_SLICE)
    count = max(min(tasks, most), -(-len(ids) // size))
    if len(ids) > tasks * size:
        count = -(-len(ids) // size)
    bounds = [len(ids) * no // count for no in range(count + 1)]
    return [ids[a:b] for a, b in itertools.pairwise(bounds)]


def not_ascending(last: int | None, ids: Sequence[int]) -> int | None:
    """The first id that is not above the one before it (before all: `last`), or None."""
    if not ids:
        return None
    if last is not None and ids[0] <= last:
        return ids[0]
    return next((one for before, one in itertools.pairwise(ids) if one <= before), None)


class Cutter:
    """Cuts ids into slices as they come, and packs those: what waits for a disk is a byte or two an id.

    Nothing is cut before `tasks * size` ids have come, or the end: so a small audience is cut evenly, and all
    tasks have work.
    """

    def __init__(self, last: int | None, tasks: int, size: int) -> None:
        """`last`: the last id that is frozen already."""
        self._last = last
        self._tasks, self._size = tasks, size
        self._waiting: list[int] = []
        self._ready: list[Ids] = []

    @property
    def ready(self) -> int:
        """How many slices are cut and not taken yet."""
        return len(self._ready)

    def add(self, ids: Sequence[int]) -> None:
        """More ids, all above those before. Raises NotAscendingError."""
        self._waiting.extend(ids)
        if len(self._waiting) >= self._tasks * self._size:
            slices, rest = cut_whole(self._waiting, self._size)
            self._waiting = list(rest)
            self._pack(slices)

    def take(self) -> list[Ids]:
        """The slices that are ready."""
        taken, self._ready = self._ready, []
        return taken

    def take_rest(self) -> list[Ids]:
        """What is ready, and what waits: there is nothing more to come. Raises NotAscendingError."""
        slices = cut_evenly(self._waiting, self._tasks, self._size)
        self._waiting = []
        self._pack(slices)
        return self.take()

    def _pack(self, slices: Sequence[Sequence[int]]) -> None:
        for ids in slices:
            if self._last is not None and ids[0] <= self._last:
                raise NotAscendingError(ids[0])
            try:
                self._ready.append(Ids.of(ids))
            except ValueError as error:
                repeated = not_ascending(self._last, ids)
                assert repeated is not None
                raise NotAscendingError(repeated) from error
            self._last = ids[-1]
