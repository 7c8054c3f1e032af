import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.frozen import Ids, pack_ids, unpack_ids

ASCENDING = st.sets(st.integers(-(2**63), 2**63 - 1), max_size=500).map(sorted)


@given(ASCENDING)
def test_what_was_packed_comes_back(ids):
    assert unpack_ids(pack_ids(ids)) == ids


@given(
    st.integers(-(2**62), 2**62), st.lists(st.sampled_from([1, 2, 127, 128, 255, 256, 2**40]), max_size=20)
)
def test_gaps_of_one_byte_and_of_more_come_back(first, gaps):
    ids = list(itertools.accumulate(gaps, initial=first))
    assert unpack_ids(pack_ids(ids)) == ids
    packed = Ids.of(ids)
    assert (packed.first, packed.last, len(packed)) == (ids[0], ids[-1], len(ids))


@given(ASCENDING.filter(lambda ids: len(ids) > 1), st.data())
def test_ids_that_do_not_ascend_are_refused(ids, data):
    at = data.draw(st.integers(1, len(ids) - 1))
    with pytest.raises(ValueError, match=r"unique and ascend"):
        pack_ids([*ids[:at], ids[at - 1], *ids[at:]])


@pytest.mark.parametrize("ids", [[2, 1], [1, 1], [-1, -2]])
def test_refusals_name_both_ids(ids):
    with pytest.raises(ValueError, match=f"{ids[1]} after {ids[0]}"):
        pack_ids(ids)


def test_nobody_takes_no_byte():
    assert pack_ids([]) == b""
    assert unpack_ids(b"") == []


def test_500_neighbours_take_some_500_bytes():
    assert len(pack_ids(range(10**9, 10**9 + 500))) < 510


@given(ASCENDING)
def test_packed_ids_are_a_sequence_as_a_tuple_is(ids):
    packed, plain = Ids.of(ids), tuple(ids)
    assert (list(packed), len(packed), bool(packed)) == (ids, len(ids), bool(ids))
    assert (packed[:3], packed[-2:], packed[1:-1]) == (plain[:3], plain[-2:], plain[1:-1])
    assert packed == plain
    assert plain == packed
    assert packed.packed == pack_ids(ids)
    assert hash(packed) == hash(plain)
    assert packed != (*plain, 2**63)
    assert packed != 7
    assert repr(packed) == repr(plain)


def test_packed_ids_are_looked_at_one_by_one():
    packed = Ids.of([-5, 3, 300])
    assert (packed[0], packed[-1]) == (-5, 300)
    assert 3 in packed
    assert 4 not in packed
    with pytest.raises(IndexError):
        packed[3]
