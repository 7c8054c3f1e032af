"""The MySQL ledger when the server or the way to it fails: nothing forgotten, nothing counted twice."""

import asyncio
import contextlib
import os
import socket
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from bed import old_ledger
from bed.commit_proxy import commit_proxy
from bed.fakes import FakeClock, new_job
from bed.ledgers import MysqlHome
from bed.mariadb import PASSWORD, folder_of_servers, private_mariadb
from sqlalchemy.ext.asyncio import create_async_engine

from broadcastd.batch import Batch, OutcomeRow
from broadcastd.clock import to_ms
from broadcastd.errors import LedgerInUseError, LedgerUnavailableError, LedgerVersionError
from broadcastd.ledgers.migration import HEAD, Upgrade
from broadcastd.ledgers.mysql import MysqlLedger, address, make, upgrade
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState

NO_WINDOW = timedelta(0)


@pytest.fixture
async def home(mariadb, tmp_path):
    home = MysqlHome(mariadb, tmp_path, FakeClock())
    yield home
    await home.kill()


@pytest.fixture
async def proxy(mariadb):
    async with commit_proxy(mariadb.port) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def ledger_through(home, port, answer_s=30.0):
    """The ledger of this home, by way of a proxy."""
    url = home.url.replace(f":{home.server.port}/", f":{port}/")
    async with MysqlLedger(url, home.clock, home.guard(), answer_s=answer_s) as ledger:
        yield ledger


async def accept(ledger, name, **about):
    return await ledger.accept(new_job(id=name, content=name, **about), NO_WINDOW)


async def until(look):
    async with asyncio.timeout(30):
        while not look():  # noqa: ASYNC110 - what is looked at rings no bell
            await asyncio.sleep(0.01)


def outcome(no, one, clock):
    return OutcomeRow(no, one, f"o{one}", Outcome.SENT, "custom", 0, clock.now())


# -- the answer to a COMMIT is lost ------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unanswered", "silent"])
async def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(home, proxy, fault):
    async with ledger_through(home, proxy.port, answer_s=2.0) as ledger:
        no = (await accept(ledger, "j1")).job.no
        await ledger.add_slices(no, [[1, 2, 3]], planned=True)
        proxy.fault = fault
        await ledger.record(Batch(outcomes=[outcome(no, 1, home.clock)]), home.clock.now())
        assert proxy.struck.is_set()
        assert ledger.trouble == ""
        assert (await ledger.job("j1")).books.outcomes == {Outcome.SENT: 1}
    assert home.rows("SELECT n FROM tallies") == [(1,)]


async def test_a_job_whose_commit_was_found_is_answered_as_new(home, proxy):
    async with ledger_through(home, proxy.port) as ledger:
        proxy.fault = "unanswered"
        assert not (await accept(ledger, "j1", key="k")).repeat
        assert proxy.struck.is_set()
    assert home.rows("SELECT id FROM jobs") == [("j1",)]


@pytest.mark.parametrize("fault", ["unsent", "held"])
async def test_a_commit_that_never_arrived_is_known_as_not_done(home, proxy, fault):
    async with ledger_through(home, proxy.port) as ledger:
        no = (await accept(ledger, "j1")).job.no
        await ledger.add_slices(no, [[1, 2, 3]], planned=True)
        proxy.fault = fault
        batch = Batch(outcomes=[outcome(no, 1, home.clock)])
        with pytest.raises(LedgerUnavailableError):
            await ledger.record(batch, home.clock.now())
        assert proxy.struck.is_set()
        assert home.rows("SELECT count(*) FROM outcomes") == [(0,)]
        await ledger.record(batch, home.clock.now())  # as the recorder does
        assert ledger.trouble == ""
        assert (await ledger.job("j1")).books.outcomes == {Outcome.SENT: 1}


async def test_while_the_fate_of_a_commit_is_unknown_nothing_is_answered(home, proxy):
    async with ledger_through(home, proxy.port) as ledger:
        proxy.fault = "unanswered"
        proxy.refusing = True  # from now on; the connections that are open stay so
        waiting = asyncio.create_task(accept(ledger, "j1"))
        await until(lambda: "cannot be read yet" in ledger.trouble)
        assert not waiting.done()
        proxy.refusing = False
        assert (await waiting).job.id == "j1"
        assert ledger.trouble == ""


async def test_who_waits_at_a_socket_is_told_that_it_is_not_known(home, proxy, monkeypatch):
    monkeypatch.setattr("broadcastd.ledgers.sql.PATIENCE_S", 1.0)
    async with ledger_through(home, proxy.port) as ledger:
        proxy.fault = "unanswered"
        proxy.refusing = True
        with pytest.raises(
            LedgerUnavailableError, match=r"not confirmed it within 1 s: .*cannot be read yet"
        ):
            await accept(ledger, "j1", key="k")
        proxy.refusing = False
        await until(lambda: ledger.trouble == "")
        assert (await accept(ledger, "j1", key="k")).repeat


# -- the server goes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server():
    """A server of this file's own, to be killed."""
    with (
        tempfile.TemporaryDirectory(prefix="bd-", dir=folder_of_servers()) as folder,
        private_mariadb(Path(folder), durable=True) as server,
    ):
        yield server


@pytest.fixture
async def own_home(own_server, tmp_path):
    home = MysqlHome(own_server, tmp_path, FakeClock())
    await home.open()
    yield home
    await home.kill()


async def restart(home, *, kill=False):
    """And the daemon has noticed that its connection is gone."""
    await asyncio.to_thread(home.server.stop, kill=kill)
    with pytest.raises(LedgerUnavailableError):
        await accept(home.ledger, "lost")
    await asyncio.to_thread(home.server.start)


@pytest.mark.parametrize("kill", [False, True])
async def test_a_server_that_goes_and_comes_back(own_home, kill):
    server, ledger = own_home.server, own_home.ledger
    no = (await accept(ledger, "j1")).job.no
    await ledger.add_slices(no, [[1, 2, 3]], planned=True)
    await asyncio.to_thread(server.stop, kill=kill)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError) as refused:
            await accept(ledger, "j2")
        assert PASSWORD not in str(refused.value)
    with pytest.raises(LedgerUnavailableError, match=address(own_home.url)):
        await ledger.job("j1")
    assert "the ledger cannot be written" in ledger.trouble
    await asyncio.to_thread(server.start)
    assert not (await accept(ledger, "j2")).repeat
    assert ledger.trouble == ""
    assert [job.id for job in await ledger.jobs(9)] == ["j2", "j1"]


async def test_after_a_restart_of_the_server_the_lock_is_taken_again(own_home):
    await restart(own_home, kill=True)
    await accept(own_home.ledger, "j1")
    with pytest.raises(LedgerInUseError, match=f"pid {os.getpid()} on {socket.gethostname()}"):
        await MysqlHome.open(Second(own_home))


async def test_an_idle_daemon_takes_its_lock_again_by_itself(own_home, monkeypatch):
    monkeypatch.setattr("broadcastd.ledgers.mysql_writer.KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr("broadcastd.ledgers.mysql_link.FRESH_S", 0.0)
    await accept(own_home.ledger, "j1")
    before = locks(own_home)
    assert before
    await asyncio.to_thread(own_home.server.stop)
    await until(lambda: "cannot be reached" in own_home.ledger.trouble)
    await asyncio.to_thread(own_home.server.start)
    await until(lambda: own_home.ledger.trouble == "")
    assert locks(own_home)


async def test_who_lost_the_lock_to_another_writes_nothing_more_and_ends(own_home):
    ledger = own_home.ledger
    watching = asyncio.create_task(ledger.watch())
    await accept(ledger, "j1")
    await restart(own_home)
    other = Second(own_home)
    await other.open()
    with pytest.raises(LedgerUnavailableError, match=r"is in use by another broadcastd, pid \d+ on"):
        await accept(ledger, "j2")
    with pytest.raises(LedgerInUseError, match=r"is in use by another broadcastd"):
        await watching
    with pytest.raises(LedgerUnavailableError, match="in use by another"):
        await accept(ledger, "j3")
    assert [job.id for job in await other.ledger.jobs(9)] == ["j1"]
    await other.kill()


async def test_who_lost_the_lock_for_a_while_ends_too(own_home):
    """Another daemon has worked on the ledger and is gone: what this one knows of it is no longer true."""
    ledger = own_home.ledger
    await accept(ledger, "j1")
    await restart(own_home)
    other = Second(own_home)
    await other.open()
    await other.kill()
    with pytest.raises(LedgerUnavailableError, match="was taken, while the connection to it was lost, by"):
        await accept(ledger, "j2")
    with pytest.raises(LedgerInUseError):
        await ledger.watch()


class Second(MysqlHome):
    """A second daemon on the database of a home."""

    def __init__(self, first):
        self.server, self.database, self.url = first.server, first.database, first.url
        self.clock, self._folder, self._is_open = first.clock, first._folder, False


def locks(home):
    return home.rows(
        "SELECT id FROM information_schema.processlist"
        f" WHERE id = IS_USED_LOCK('{home.ledger._link._own_lock}') AND db = '{home.database}'"
    )


# -- who may use it ----------------------------------------------------------------------------------------


async def test_a_second_daemon_is_refused_and_told_who_has_it(home):
    await home.open()
    with pytest.raises(LedgerInUseError) as refused:
        await Second(home).open()
    assert str(refused.value) == (
        f"the ledger mysql://127.0.0.1:{home.server.port}/{home.database} is in use by another broadcastd,"
        f" pid {os.getpid()} on {socket.gethostname()}"
    )
    await accept(home.ledger, "j1")  # the first one is not disturbed
    await home.kill()
    second = Second(home)
    await second.open()
    await second.kill()


async def test_the_lock_is_of_one_database_only(home, mariadb, tmp_path):
    await home.open()
    mariadb.rows(f"CREATE DATABASE {home.database}x")
    other = Second(home)
    other.url += "x"
    await other.open()
    # Both are at work, each in its own.
    assert (await accept(home.ledger, "j1")).job.no == (await accept(other.ledger, "j2")).job.no == 1
    assert [job.id for job in await home.ledger.jobs(9)] == ["j1"]
    assert [job.id for job in await other.ledger.jobs(9)] == ["j2"]
    await other.kill()
    mariadb.rows(f"DROP DATABASE {home.database}x")


async def test_a_database_of_somebody_else_is_left_alone(home):
    home.rows("CREATE TABLE customers (id INT PRIMARY KEY)")
    with pytest.raises(LedgerUnavailableError, match=r"holds other tables \(customers\)"):
        await home.open()
    assert home.rows("SHOW TABLES") == [("customers",)]


async def test_a_newer_version_is_refused(home):
    await home.open()
    await home.kill()
    home.rows("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerVersionError, match="has version 9999"):
        await home.open()
    with pytest.raises(LedgerVersionError, match="has version 9999"):
        await upgrade(home.url)
    home.rows(f"UPDATE alembic_version SET version_num = '{HEAD}'")
    await home.open()  # the lock was let go of


async def test_an_old_version_is_refused_until_somebody_upgrades_it(home):
    with pytest.raises(LedgerUnavailableError, match="there is no ledger"):
        await upgrade(home.url)
    engine = create_async_engine(home.url.replace("mysql://", "mysql+asyncmy://"))
    async with engine.begin() as connection:
        await connection.run_sync(old_ledger.fill, to_ms(home.clock.now()))
    await engine.dispose()
    with pytest.raises(LedgerVersionError, match=r"has version 0001.* then run `broadcastd ledger upgrade`"):
        await home.open()
    assert await make(home.url)
    assert await upgrade(home.url) == Upgrade("0001", HEAD)
    assert await upgrade(home.url) == Upgrade(HEAD, HEAD)
    await home.open()
    assert home.opening.in_doubt == sum(old_ledger.IN_DOUBT.values())
    job = await home.ledger.job(old_ledger.job_id(old_ledger.HALF_SENT))
    assert (job.books.recipients, job.books.ended, job.books.in_doubt) == (1500, 660, 30)
    with pytest.raises(LedgerInUseError, match=f"pid {os.getpid()}"):
        await upgrade(home.url)


async def test_a_ledger_that_was_made_half_is_made_whole(home):
    assert not await make(home.url)
    home.rows("DROP TABLE tallies")
    home.rows("DELETE FROM alembic_version")
    assert not await make(home.url)
    assert await make(home.url)
    await home.open()
    assert (await accept(home.ledger, "j1")).job.books.ended == 0


async def test_making_looks_at_a_ledger_in_use_without_disturbing_it(home):
    await home.open()
    assert await make(home.url)
    await accept(home.ledger, "j1")


@pytest.mark.parametrize(
    ("part", "wrong", "why"),
    [
        (PASSWORD, "not-the-password", r"Access denied .*\(1045\)"),
        ("/ledger_", "/nothing_", r"\(10(44|49)\)"),
    ],
)
async def test_what_cannot_be_opened_says_why_and_no_secret(home, part, wrong, why):
    home.url = home.url.replace(part, wrong)
    with pytest.raises(LedgerUnavailableError, match=why) as refused:
        await home.open()
    assert wrong not in str(refused.value) or part == "/ledger_"
    assert PASSWORD not in str(refused.value)


async def test_a_server_that_may_forget_is_warned_of(home, own_server, tmp_path):
    with structlog.testing.capture_logs() as logs:
        durable = MysqlHome(own_server, tmp_path, FakeClock())
        await durable.open()
        await durable.kill()
        assert not logs
        await home.open()
    (warning,) = [line for line in logs if line["event"] == "ledger_weakly_kept"]
    assert warning["setting"] == "innodb_flush_log_at_trx_commit = 0"


# -- what others do in the database ------------------------------------------------------------------------


async def test_a_row_that_somebody_holds_is_an_error_and_goes_on_afterwards(home, monkeypatch):
    monkeypatch.setattr("broadcastd.ledgers.mysql.LOCK_WAIT_S", 1)
    await home.open()
    no = (await accept(home.ledger, "j1")).job.no
    operator = create_async_engine(home.url.replace("mysql:", "mysql+asyncmy:"))
    async with operator.connect() as held:
        await held.exec_driver_sql(f"UPDATE jobs SET reason = 'mine' WHERE no = {no}")
        with pytest.raises(LedgerUnavailableError, match=r"Lock wait timeout exceeded.*\(1205\)"):
            await home.ledger.add_slices(no, [[1]], planned=True)
        await held.rollback()
    await operator.dispose()
    await home.ledger.add_slices(no, [[1]], planned=True)
    assert home.ledger.trouble == ""


async def test_a_connection_that_was_killed_is_made_again(home):
    await home.open()
    await accept(home.ledger, "j1")
    (number,) = home.rows("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id IN"
                          f" (IS_USED_LOCK('{home.ledger._link._own_lock}'), 0)")[0]  # fmt: skip
    home.rows(f"KILL {number}")
    with pytest.raises(LedgerUnavailableError):
        await accept(home.ledger, "j2")
    await accept(home.ledger, "j2")
    assert [job.id for job in await home.ledger.jobs(9)] == ["j2", "j1"]


async def test_a_batch_of_thousands_some_of_them_known(home):
    await home.open()
    ledger, now = home.ledger, home.clock.now()
    no = (await accept(ledger, "j1")).job.no
    await ledger.add_slices(no, [list(range(1, 3001))], planned=True)
    await ledger.record(Batch(outcomes=[outcome(no, one, home.clock) for one in (5, 1005, 3000)]), now)
    everybody = [outcome(no, one, home.clock) for one in [*range(1, 3001), 1, 2999]]
    await ledger.record(Batch(outcomes=everybody), now)
    books = (await ledger.job("j1")).books
    assert books.outcomes == {Outcome.SENT: 3000}
    assert home.rows("SELECT count(*), count(DISTINCT recipient_id) FROM outcomes") == [(3000, 3000)]
    assert home.rows("SELECT ended FROM rounds") == [(3000,)]


# -- copies ------------------------------------------------------------------------------------------------


async def test_a_copy_in_another_database_is_known_and_adopted(home, mariadb):
    await home.open()
    no = (await accept(home.ledger, "j1")).job.no
    await home.ledger.add_slices(no, [[1]], planned=True)
    await home.kill()
    copy = Second(home)
    copy.database, copy.url = f"{home.database}x", f"{home.url}x"
    mariadb.rows(f"CREATE DATABASE {copy.database}")
    for (table,) in home.rows("SHOW TABLES"):
        mariadb.rows(f"CREATE TABLE {copy.database}.{table} LIKE {home.database}.{table}")
        mariadb.rows(f"INSERT INTO {copy.database}.{table} SELECT * FROM {home.database}.{table}")
    await copy.open()
    assert f"it was last used as mysql://127.0.0.1:{mariadb.port}/{home.database}" in copy.ledger.copied
    assert [job.state for job in await copy.ledger.jobs(9)] == [JobState.HELD]
    assert await copy.ledger.adopt() == 1
    await copy.kill()
    await copy.open()
    assert copy.ledger.copied == ""
    await copy.kill()
    mariadb.rows(f"DROP DATABASE {copy.database}")
    await home.open()
    assert home.ledger.copied == ""


async def test_many_statements_may_take_longer_than_one(home, proxy):
    """However slow the way there is: what is waited for is each answer."""
    async with ledger_through(home, proxy.port, answer_s=2.0) as ledger:
        proxy.delay_s = 0.4
        started_s = asyncio.get_running_loop().time()
        jobs = await asyncio.gather(*(accept(ledger, f"j{n}") for n in range(6)))
        assert asyncio.get_running_loop().time() - started_s > 2.0
        proxy.delay_s = 0.0
        assert len({one.job.no for one in jobs}) == 6
