"""A commit whose answer is lost: what is on disk decides, and nothing is committed twice."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest
import sqlalchemy as sa

from broadcastd.errors import JobEndedError, LedgerSilentError, LedgerUnavailableError
from broadcastd.ledgers import writer as writer_module
from broadcastd.ledgers.groups import Alike
from broadcastd.ledgers.schema import jobs, metadata
from broadcastd.ledgers.writer import Writer


class Disk:
    """What the next commits do: each is taken off the list; `None` is a good one."""

    def __init__(self):
        self.script = []
        self.connections = 0

    def connection(self):
        disk = self

        class Faulty(sqlite3.Connection):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                disk.connections += 1

            def commit(self):
                fault = disk.script.pop(0) if disk.script else None
                if fault != "before":
                    super().commit()
                if fault is not None:
                    raise sqlite3.OperationalError("disk I/O error")

        return Faulty


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
async def writer(tmp_path, disk):
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(tmp_path / "ledger.db")),
        connect_args={"factory": disk.connection()},
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(driver, _):
        driver.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(
            sa.insert(jobs).values(
                id="j1", account="a", state="running", content="", phone="", channels=[], messages={},
                on_unknown="resend", accepted_at=0,
            )
        )  # fmt: skip
    disk.connections = 0
    made = Writer(engine)
    yield made
    disk.script.clear()
    await made.close()
    engine.dispose()


def count_one(connection):
    connection.execute(sa.update(jobs).values(in_doubt=jobs.c.in_doubt + 1))
    return "counted"


def counted(tmp_path):
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as outside:
        return outside.execute("SELECT in_doubt FROM jobs").fetchone()[0]


async def test_a_commit_that_is_on_disk_counts_though_its_answer_was_lost(writer, disk, tmp_path):
    disk.script = ["after"]
    assert await writer.run(count_one) == "counted"
    assert counted(tmp_path) == 1
    assert writer.trouble == ""
    assert disk.connections == 1, "what a connection says after an I/O error is not relied on"


async def test_a_commit_that_is_not_on_disk_is_an_error_and_may_be_tried_again(writer, disk, tmp_path):
    disk.script = ["before"]
    with pytest.raises(LedgerUnavailableError, match="disk I/O error"):
        await writer.run(count_one)
    assert "disk I/O error" in writer.trouble
    assert counted(tmp_path) == 0
    assert await writer.run(count_one) == "counted"
    assert counted(tmp_path) == 1
    assert writer.trouble == ""


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_all_of_a_group_share_its_fate(writer, disk, tmp_path, fault):
    disk.script = [fault]
    results = await asyncio.gather(*(writer.run(count_one) for _ in range(20)), return_exceptions=True)
    good = [one for one in results if one == "counted"]
    assert counted(tmp_path) == len(good)
    assert all(isinstance(one, LedgerUnavailableError) for one in results if one != "counted")
    if fault == "after":
        assert len(good) == 20


async def test_while_it_cannot_be_read_nobody_is_told_anything_but_who_waits_at_a_socket(
    writer, disk, tmp_path, monkeypatch
):
    monkeypatch.setattr(writer_module, "LOOK_AGAIN_S", 0.01)
    # The commit is there, its answer is lost, and three looks fail as well.
    disk.script = ["after", "after", "after", "after"]
    patient = asyncio.ensure_future(writer.run(count_one))
    assert await patient == "counted"
    assert counted(tmp_path) == 1


async def test_who_waits_at_a_socket_waits_only_so_long(writer, tmp_path):
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match=r"not confirmed it within 0\.05 s"):
            await writer.run(count_one, 0.05)
        intruder.execute("ROLLBACK")
    # It was given up waiting for, not taken back.
    assert await writer.run(lambda connection: "next") == "next"
    assert counted(tmp_path) == 1


async def test_a_writer_that_hangs_is_silent_and_does_not_say_that_something_is_wrong(writer):
    hangs, goes_on = threading.Event(), threading.Event()
    hanging = asyncio.ensure_future(writer.run(lambda _: (hangs.set(), goes_on.wait(30))[1]))
    assert await asyncio.to_thread(hangs.wait, 30)
    with pytest.raises(LedgerSilentError):
        await writer.run(lambda _: None, 0.05)
    goes_on.set()
    assert await hanging
    await writer.run(lambda _: None, 30)


# -- groups ------------------------------------------------------------------------------------------------


def on_the_driver(connection):
    """As the recorder's statements are run, and those of accepted jobs."""
    connection.connection.driver_connection.execute("UPDATE jobs SET in_doubt = in_doubt + 1")
    return "counted"


def refused(connection):
    on_the_driver(connection)
    raise JobEndedError


def broken(connection):
    on_the_driver(connection)
    raise ZeroDivisionError


async def test_statements_on_the_drivers_own_connection_are_in_the_transaction_too(writer, disk, tmp_path):
    disk.script = ["before"]
    with pytest.raises(LedgerUnavailableError):
        await writer.run(on_the_driver)
    assert counted(tmp_path) == 0


@pytest.mark.parametrize(("change", "error"), [(refused, JobEndedError), (broken, ZeroDivisionError)])
async def test_what_one_wrote_before_it_was_refused_is_undone_and_the_others_stand(
    writer, tmp_path, change, error
):
    changes = [on_the_driver, change, count_one, on_the_driver]
    results = await asyncio.gather(*map(writer.run, changes), return_exceptions=True)
    assert [isinstance(one, error) for one in results] == [False, True, False, False]
    assert counted(tmp_path) == 3


class Together:
    """Changes that are made together; keeps how many were at a time."""

    def __init__(self):
        self.sizes = []

    def make(self, connection, items):
        self.sizes.append(len(items))
        for item in items:
            if item == "bug":
                raise ZeroDivisionError
            on_the_driver(connection)
        return [JobEndedError() if item == "refused" else item for item in items]


@pytest.fixture
def together():
    return Together()


async def made(writer, together, items):
    # Whatever comes while the first is committed waits for the same commit.
    loop, began, blocked = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def block(_):
        loop.call_soon_threadsafe(began.set)
        blocked.wait(30)

    first = asyncio.create_task(writer.run(block))
    await began.wait()
    some = [asyncio.create_task(writer.run(Alike(together.make, item))) for item in items]
    await asyncio.sleep(0)
    blocked.set()
    await first
    return await asyncio.gather(*some, return_exceptions=True)


async def test_changes_that_are_alike_are_made_together_and_refused_one_by_one(writer, together, tmp_path):
    results = await made(writer, together, ["a", "refused", "b"])
    assert (results[0], results[2]) == ("a", "b")
    assert isinstance(results[1], JobEndedError)
    assert together.sizes == [3]
    assert counted(tmp_path) == 3


async def test_a_bug_in_one_of_those_that_are_alike_leaves_the_others_alone(writer, together, tmp_path):
    results = await made(writer, together, ["a", "bug", "b"])
    assert [type(one) for one in results] == [str, ZeroDivisionError, str]
    assert counted(tmp_path) == 2
