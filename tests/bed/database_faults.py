"""What can become of the site's database, each for real, for as long as a `with` lasts."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bed.mariadb import PASSWORD, USER, PrivateMariaDb
from bed.ports import eventually
from bed.proxy import DatabaseProxy

HOGS = 10
"""As few connections as MariaDB can be told to allow."""


@dataclass(frozen=True)
class Fault:
    """`goes_wrong(server, proxy, table)`; `words`: what the daemon then says, with a place for the table."""

    goes_wrong: Callable[[PrivateMariaDb, DatabaseProxy, str], AbstractContextManager[None]]
    words: str


@contextmanager
def _refuses(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    proxy.close()
    try:
        yield
    finally:
        proxy.start()


@contextmanager
def _hangs(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    proxy.hang()
    try:
        yield
    finally:
        proxy.hang(on=False)


@contextmanager
def _answers_are_lost(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    proxy.swallow_answers = True
    try:
        yield
    finally:
        proxy.swallow_answers = False


@contextmanager
def _password_changes(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    server.run(f"ALTER USER '{USER}'@'127.0.0.1' IDENTIFIED BY 'another one';")
    proxy.cut()
    try:
        yield
    finally:
        server.run(f"ALTER USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';")


@contextmanager
def table_locked(server: PrivateMariaDb, table: str) -> Iterator[None]:
    """Somebody else's session holds LOCK TABLES … WRITE."""
    locker = subprocess.Popen(
        ["mariadb", "--no-defaults", f"--socket={server.socket}", "-uroot", "-N", "--unbuffered", "site"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert locker.stdin is not None
    assert locker.stdout is not None
    try:
        locker.stdin.write(f"LOCK TABLES {table} WRITE; SELECT 'locked';\n")
        locker.stdin.flush()
        assert locker.stdout.readline() == "locked\n"
        yield
    finally:
        locker.communicate("UNLOCK TABLES;\n", timeout=30)


def _is_locked(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> AbstractContextManager[None]:
    return table_locked(server, table)


@contextmanager
def _table_goes(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    server.run(f"RENAME TABLE {table} TO {table}_old;")
    try:
        yield
    finally:
        server.run(f"RENAME TABLE {table}_old TO {table};")


@contextmanager
def _server_is_full(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    _close(server, proxy)
    server.look_away()  # a connection of the tests' own would take the place of one
    _as_soon_as_it_may(server, f"SET GLOBAL max_connections = {HOGS};")
    try:
        with _hogs(server, HOGS):
            proxy.start()
            yield
    finally:
        _as_soon_as_it_may(server, "SET GLOBAL max_connections = 151;")


@contextmanager
def _user_has_no_more(server: PrivateMariaDb, proxy: DatabaseProxy, table: str) -> Iterator[None]:
    _close(server, proxy)
    server.run(f"ALTER USER '{USER}'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1;")
    try:
        with _hogs(server, 1):
            proxy.start()
            yield
    finally:
        server.run(f"ALTER USER '{USER}'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0;")


def _close(server: PrivateMariaDb, proxy: DatabaseProxy) -> None:
    """Let nobody in, and see that the server has noticed that those who were are gone."""
    proxy.close()
    connected = f"SELECT count(*) FROM information_schema.processlist WHERE user = '{USER}';"
    eventually(lambda: int(server.run(connected)) == 0, 30, "nobody is connected")


@contextmanager
def _hogs(server: PrivateMariaDb, many: int) -> Iterator[None]:
    """Connections of the site's own that stay open."""
    hogs: list[subprocess.Popen[bytes]] = []
    sleeping = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(600)%';"

    def all_in() -> bool:
        # One may have been refused because root looked just then.
        hogs.extend(_hog(server) for _ in range(many - sum(hog.poll() is None for hog in hogs)))
        return len(_as_soon_as_it_may(server, sleeping).split()) == many

    try:
        eventually(all_in, 30, "the hogs are connected")
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait(30)
        # The server itself notices only after seconds that they are gone.
        for number in _as_soon_as_it_may(server, sleeping).split():
            _as_soon_as_it_may(server, f"KILL {number};")


def _hog(server: PrivateMariaDb) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["mariadb", "--no-defaults", f"--port={server.port}", "--host=127.0.0.1", f"-u{USER}",
         f"-p{PASSWORD}", "-N", "-e", "SELECT SLEEP(600)", "site"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _as_soon_as_it_may(server: PrivateMariaDb, sql: str) -> str:
    """As root, for whom one connection more is kept: somebody who is about to be refused may be on it."""
    done: list[str] = []

    def tried() -> bool:
        try:
            done.append(server.run(sql))
        except AssertionError as error:
            # Somebody who is gone already need not be killed.
            return "Unknown thread id" in str(error)
        return True

    eventually(tried, 30, sql)
    return done[0] if done else ""


NOT_IN_TIME = "the site's database does not answer within 1 s"
FAULTS: Mapping[str, Fault] = {
    "refuses": Fault(_refuses, "the site's database cannot be reached: Connection refused"),
    "hangs": Fault(_hangs, NOT_IN_TIME),
    "answers-are-lost": Fault(_answers_are_lost, NOT_IN_TIME),
    "password-changes": Fault(_password_changes, "the site's database refuses the password (1045)"),
    "is-locked": Fault(_is_locked, NOT_IN_TIME),
    "table-goes": Fault(_table_goes, "the site's database says: Table 'site.{table}' doesn't exist (1146)"),
    "is-full": Fault(_server_is_full, "the site's database has too many connections (1040)"),
    "no-more-for-this-user": Fault(
        _user_has_no_more, "the site's database lets this user do no more for now (1226)"
    ),
}
