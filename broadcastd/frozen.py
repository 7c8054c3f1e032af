"""A slice's frozen ids, small: ascending integers as gaps, seven bits a byte (LEB128).

500 neighbouring ids take some 500 bytes; the books balance against them and a restart resumes exactly.
"""

import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import overload


def pack_ids(ids: Sequence[int]) -> bytes:
    """Encode strictly ascending ids. Raises ValueError when they do not ascend."""
    # In most tables every gap is one byte: 25 ns an id, where encoding takes 50. All ids of an audience pass
    # here, and that they ascend is seen by it, too.
    try:
        gaps = bytes(map(operator.sub, itertools.islice(ids, 1, None), ids))
    except ValueError:
        return _encode(ids)
    return _encode(ids[:1]) + gaps if gaps.isascii() and 0 not in gaps else _encode(ids)


def _encode(ids: Sequence[int]) -> bytes:
    out = bytearray()
    last: int | None = None
    for one in ids:
        if last is None:
            gap = one << 1 if one >= 0 else (-one << 1) | 1
        elif one > last:
            gap = one - last
        else:
            raise ValueError(f"ids must be unique and ascend: {one} after {last}")
        last = one
        while gap > 0x7F:
            out.append(gap & 0x7F | 0x80)
            gap >>= 7
        out.append(gap)
    return bytes(out)


def unpack_ids(packed: bytes) -> list[int]:
    """Decode what `pack_ids` made."""
    if not packed:
        return []
    size = next(at for at, byte in enumerate(packed, 1) if byte <= 0x7F)
    (first,) = _decode(packed[:size])
    gaps = packed[size:]
    start = -(first >> 1) if first & 1 else first >> 1
    # In most tables every gap is one byte: 25 ns an id, where decoding takes 85.
    return list(itertools.accumulate(gaps if gaps.isascii() else _decode(gaps), initial=start))


class Ids(Sequence[int]):
    """Ids of one slice, packed: of a million they are 2 MB, and of 60 leased slices 60 KB instead of 1.4 MB.

    Each look at them unpacks them all, in 25 ns an id: go over them once. Their ends are at hand.
    """

    __slots__ = ("_count", "first", "last", "packed")

    def __init__(self, packed: bytes, count: int, first: int, last: int) -> None:
        """`packed`: by `pack_ids`; of so many ids, from `first` to `last`: 0 when there is none."""
        self.packed = packed
        self._count = count
        self.first, self.last = first, last

    @classmethod
    def of(cls, ids: Sequence[int]) -> "Ids":
        """Pack them. Raises ValueError when they do not ascend."""
        first, last = (ids[0], ids[-1]) if ids else (0, 0)
        return cls(pack_ids(ids), len(ids), first, last)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(unpack_ids(self.packed))

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[int, ...]: ...

    def __getitem__(self, at: int | slice) -> int | tuple[int, ...]:
        return tuple(self)[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _decode(packed: bytes) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            continue
        numbers.append(value)
        value = shift = 0
    return numbers
