"""The site's database: an audience of any size in MariaDB, made when it is first asked for."""

from bed.mariadb import USER, PrivateMariaDb
from bed.site import TABLES, TOKEN


def audience(server: PrivateMariaDb, followers: int, *, indexed: bool = False) -> str:
    """The URL of a database with so many followers, every second id left out, as after years of changes.

    `indexed`: there is an index on `receive_status`, as some sites have.
    """
    name = f"audience_{followers}{'_indexed' if indexed else ''}"
    if not server.rows(f"SHOW DATABASES LIKE '{name}'"):
        server.rows(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        server.rows(f"GRANT ALL ON {name}.* TO '{USER}'@'127.0.0.1'")
        server.run(TABLES, name)
        server.run(
            "INSERT INTO tp_receiver SELECT seq * 2, concat('o', lpad(seq, 27, '0')), NULL, 1, 1"
            f" FROM seq_1_to_{followers};"
            f"INSERT INTO tp_accesstoken VALUES (1, '{TOKEN}');"
            + ("CREATE INDEX receiving ON tp_receiver (receive_status);" if indexed else "")
            + "ANALYZE TABLE tp_receiver;",
            name,
        )
    return server.url_of(name)
