"""Which faults a selftest does."""

from random import Random

from broadcastd.selftest.disk import NoFullDisk, SizeLimit
from broadcastd.selftest.faults import (
    FAULTS,
    deal,
    disk_full,
    kill_while_planning,
    kill_while_recovering,
    kill_while_sending,
)


def test_seven_rounds_hold_every_fault_once() -> None:
    faults = deal(7, SizeLimit(), Random(1))
    assert {*faults} == {*FAULTS.values()}


def test_most_are_kills() -> None:
    faults = deal(120, SizeLimit(), Random(1))
    kills = (kill_while_sending, kill_while_planning, kill_while_recovering)
    assert sum(fault in kills for fault in faults) == 80


def test_the_same_seed_deals_the_same() -> None:
    assert deal(20, SizeLimit(), Random(3)) == deal(20, SizeLimit(), Random(3))
    assert deal(20, SizeLimit(), Random(3)) != deal(20, SizeLimit(), Random(4))


def test_a_disk_that_cannot_be_filled_is_replaced_by_a_kill() -> None:
    faults = deal(24, NoFullDisk(), Random(1))
    assert len(faults) == 24
    assert disk_full not in faults
