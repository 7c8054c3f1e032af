"""How frozen ids are cut into slices. Pure."""

import itertools
import operator
from collections.abc import Sequence

SMALLEST_SLICE = 8
"""Below this a slice costs more than it spreads: one query and one lease for a single write-ahead chunk."""


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
    # Nothing of this loops in Python: each id of the audience passes here, in 20 ns.
    if all(map(operator.lt, ids, itertools.islice(ids, 1, None))):
        return None
    return next(one for before, one in itertools.pairwise(ids) if one <= before)
