"""Work one step behind its owner: in order, one at a time, and nothing of it goes unnoticed."""

import asyncio

import pytest

from broadcastd.delivery.one_behind import OneBehind


class Pieces:
    """Work that is done when it is told to be."""

    def __init__(self):
        self.begun, self.ended = [], []
        self.may_end = asyncio.Event()
        self.some_begun = asyncio.Event()

    def piece(self, name, error=None):
        async def work():
            self.begun.append(name)
            self.some_begun.set()
            await self.may_end.wait()
            if error is not None:
                raise error
            self.ended.append(name)

        return work


async def test_the_owner_goes_on_while_a_piece_is_done():
    pieces = Pieces()
    async with OneBehind("work") as behind:
        assert not behind.busy
        await behind.do(pieces.piece(1))
        assert behind.busy
        pieces.may_end.set()
    assert pieces.ended == [1]
    assert not behind.busy


async def test_a_piece_waits_for_the_one_before():
    pieces = Pieces()
    async with OneBehind("work") as behind:
        await behind.do(pieces.piece(1))
        second = asyncio.create_task(behind.do(pieces.piece(2)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pieces.begun == [1]
        pieces.may_end.set()
        await second
    assert pieces.ended == [1, 2]


@pytest.mark.parametrize("pieces_after", [0, 1])
async def test_what_went_wrong_is_raised_by_the_next_piece_or_at_the_end(pieces_after):
    pieces = Pieces()
    pieces.may_end.set()

    async def owner():
        async with OneBehind("work") as behind:
            await behind.do(pieces.piece(1, ValueError("of the first")))
            for _ in range(pieces_after):
                await behind.do(pieces.piece(2))

    with pytest.raises(ValueError, match="of the first"):
        await owner()
    assert pieces.begun == [1]


async def test_when_the_owner_fails_its_last_piece_is_waited_for():
    pieces = Pieces()

    async def owner():
        async with OneBehind("work") as behind:
            await behind.do(pieces.piece(1, ValueError("less telling")))
            raise KeyError("the owner's own")

    failing = asyncio.create_task(owner())
    await pieces.some_begun.wait()
    assert not failing.done()
    pieces.may_end.set()
    with pytest.raises(KeyError, match="the owner's own"):
        await failing


@pytest.mark.parametrize("waiting", [False, True])
async def test_when_the_owner_is_cancelled_so_is_its_piece(waiting):
    pieces = Pieces()

    async def owner():
        async with OneBehind("work") as behind:
            await behind.do(pieces.piece(1))
            if waiting:
                await behind.do(pieces.piece(2))
            await asyncio.Event().wait()

    cancelled = asyncio.create_task(owner())
    await pieces.some_begun.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert pieces.ended == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
