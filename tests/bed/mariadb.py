"""A private MariaDB: own data directory, socket and free port. One that runs already is never touched."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bed.eyes import Eyes
from bed.ports import eventually, free_port

# Made and removed a hundred times, tables of a ledger need no disk: each is several fsyncs there.
IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 1024**3
USER = "site"
PASSWORD = "s3cret-of-the-site"


def folder_of_servers() -> str | None:
    """Where their data may be: in memory if there is room for it, else where temporary files are."""
    roomy = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM_BYTES
    return str(IN_MEMORY) if roomy else None


class PrivateMariaDb:
    """One server with one database `site`, and the user that broadcastd is given."""

    def __init__(self, folder: Path, *, durable: bool = False, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._flush = int(durable)
        self._options = options
        self.socket = folder / "m.sock"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._eyes = Eyes(self.socket)
        self._databases = 0

    @property
    def url(self) -> str:
        """As the settings want it."""
        return self.url_of("site")

    def url_of(self, database: str) -> str:
        """Of another database than the site's."""
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def install(self) -> None:
        """Make the data directory."""
        done = subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self._folder / 'data'}",
             "--auth-root-authentication-method=normal", "--skip-test-db", *self._as_user()],
            # Temporary tables are named by the process: another server's in the same folder stand in the way.
            env={**os.environ, "TMPDIR": str(self._folder)}, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]

    def start(self) -> None:
        """Start, and return once it answers."""
        with (self._folder / "mariadb.log").open("ab") as log:
            self._launch(log)
        eventually(self._answers, 60, "MariaDB answers")

    def _launch(self, log: BinaryIO) -> None:
        self._process = subprocess.Popen(
            [self._server(), "--no-defaults", f"--datadir={self._folder / 'data'}",
             f"--tmpdir={self._folder}", f"--socket={self.socket}", f"--port={self.port}",
             "--bind-address=127.0.0.1", f"--pid-file={self._folder / 'm.pid'}",
             f"--innodb-flush-log-at-trx-commit={self._flush}",
             "--innodb-buffer-pool-size=64M", "--skip-log-bin", "--skip-name-resolve", *self._as_user(),
             *self._options],
            stdout=log, stderr=log,
        )  # fmt: skip

    def stop(self, *, kill: bool = False) -> None:
        """Stop it, or kill it."""
        self._eyes.close()
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(30)
        self._process = None

    def run(self, sql: str, database: str = "site") -> str:
        """Run statements as root; what they print, tab-separated."""
        done = subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot", "-N", database],
            input=sql, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def new_database(self) -> str:
        """The name of an empty one for a ledger; the one before it is removed."""
        if self._databases:
            self.rows(f"DROP DATABASE ledger_{self._databases}")
        self._databases += 1
        self.rows(f"CREATE DATABASE ledger_{self._databases}")
        return f"ledger_{self._databases}"

    def rows(self, sql: str, database: str = "mysql") -> list[tuple[Any, ...]]:
        """What a statement of root's yields, on a connection that stays open."""
        return self._eyes.rows(sql, database)

    def look_away(self) -> None:
        """Close the connection that `rows` keeps open."""
        self._eyes.close()

    def set_up(self) -> None:
        """The database and its user."""
        self.run(
            f"CREATE DATABASE site CHARACTER SET utf8mb4; CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY"
            f" '{PASSWORD}'; GRANT ALL ON site.* TO '{USER}'@'127.0.0.1';"
            f" GRANT ALL ON `ledger\\_%`.* TO '{USER}'@'127.0.0.1';",
            database="mysql",
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "mariadb.log").read_text()[-2000:]
        done = subprocess.run(
            ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "-uroot", "ping"],
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0

    @staticmethod
    def _server() -> str:
        return shutil.which("mariadbd") or "/usr/sbin/mariadbd"

    @staticmethod
    def _as_user() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []


@contextmanager
def private_mariadb(
    folder: Path, *, durable: bool = False, options: Sequence[str] = ()
) -> Iterator[PrivateMariaDb]:
    """Install, start and set up; stop at the end. `durable`: it may be killed, and forgets nothing."""
    server = PrivateMariaDb(folder, durable=durable, options=options)
    server.install()
    server.start()
    try:
        server.set_up()
        yield server
    finally:
        server.stop()
