"""The site's own database, in SQLite: the followers and the access token. It can go away for a while."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from broadcastd.sandbox.openids import openid

TABLES = """
CREATE TABLE tp_receiver (id INTEGER PRIMARY KEY, openid TEXT NOT NULL, expire_time TEXT,
    send_status INTEGER NOT NULL, receive_status INTEGER NOT NULL);
CREATE TABLE tp_accesstoken (id INTEGER PRIMARY KEY, accesstoken TEXT NOT NULL);
"""


class Site:
    """Follower `openid(n)` of the sandbox has the id n + 1."""

    def __init__(self, folder: Path, recipients: int, token: str) -> None:
        self.path = folder / "site.db"
        self.recipients = recipients
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.executescript(TABLES)
            database.executemany(
                "INSERT INTO tp_receiver VALUES (?, ?, NULL, 1, 1)",
                ((number + 1, openid(number)) for number in range(recipients)),
            )
            database.execute("INSERT INTO tp_accesstoken (accesstoken) VALUES (?)", (token,))
            database.commit()

    def openids(self) -> Iterator[tuple[int, str]]:
        """(id, openid) of everybody."""
        return ((number + 1, openid(number)) for number in range(self.recipients))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """No new connection finds the database, and those that are open find it locked."""
        elsewhere = self.path.with_suffix(".away")
        self.path.rename(elsewhere)
        try:
            with contextlib.closing(sqlite3.connect(elsewhere, timeout=30, isolation_level=None)) as database:
                database.execute("BEGIN EXCLUSIVE")
                yield
        finally:
            elsewhere.rename(self.path)
