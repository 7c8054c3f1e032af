"""The site's own database: followers and the access token, in SQLite or in the private MariaDB."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bed.mariadb import PrivateMariaDb

TOKEN = "token-of-the-tests"

TABLES = """
DROP TABLE IF EXISTS tp_receiver;
DROP TABLE IF EXISTS tp_accesstoken;
CREATE TABLE tp_receiver (id INTEGER PRIMARY KEY, openid VARCHAR(64) NOT NULL, expire_time DATETIME,
 send_status INTEGER NOT NULL, receive_status INTEGER NOT NULL);
CREATE TABLE tp_accesstoken (id INTEGER PRIMARY KEY, accesstoken VARCHAR(512) NOT NULL);
"""


def openid(number: int) -> str:
    """28 characters, as WeChat's."""
    return f"o{number:027d}"


def sqlite_site(path: Path, followers: int, token: str = TOKEN) -> str:
    """Make it; its URL for the settings."""
    with closing(sqlite3.connect(path)) as site:
        site.executescript(TABLES)
        site.executemany(
            "INSERT INTO tp_receiver VALUES (?, ?, NULL, 1, 1)",
            ((number, openid(number)) for number in range(1, followers + 1)),
        )
        site.execute("INSERT INTO tp_accesstoken VALUES (1, ?)", (token,))
        site.commit()
    return f"sqlite:///{path}"


def mariadb_site(server: PrivateMariaDb, followers: int, token: str = TOKEN) -> str:
    """The same in MariaDB, every second id left out, as after years of comings and goings."""
    server.run(TABLES)
    server.run(
        "INSERT INTO tp_receiver SELECT seq * 2, concat('o', lpad(seq, 27, '0')), NULL, 1, 1"
        f" FROM seq_1_to_{max(1, followers)} LIMIT {followers};"  # seq_1_to_0 counts down: two rows
        f"INSERT INTO tp_accesstoken VALUES (1, '{token}');"
    )
    return server.url
