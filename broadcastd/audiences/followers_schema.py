"""The tables of an audience sync: one of followers, ours or the site's own, and one row beside it a table."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite

SIDE_TABLE = "broadcastd_sync"

MAX_OPENID = 128
"""Characters. In practice they are 28; the length is not guaranteed (docs/wechat-api.md, section 7)."""

_BINARY = "utf8mb4_bin"
"""Openids differ in upper and lower case: with another collation, two followers would be one."""
WRITTEN = ("openid", "first_seen_at", "seen_at", "seen_pass")
"""The columns of a new row that a sync gives a value."""

_CASE_SENSITIVE = re.compile(r"_(bin|cs)$|^binary$")
_OF_MYSQL: Mapping[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(mysql.VARCHAR(length, collation=_BINARY), "mysql", "mariadb")


def _bigint() -> sa.types.TypeEngine[int]:
    # SQLite numbers the rows of an INTEGER key only.
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _seconds() -> sa.types.TypeEngine[datetime]:
    in_text = sqlite.DATETIME(truncate_microseconds=True)  # type: ignore[no-untyped-call]
    return sa.DateTime().with_variant(in_text, "sqlite")


def followers_table(name: str) -> sa.Table:
    """Of followers. Of the site's own table, these columns are what a sync needs; it may have others."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", _bigint(), primary_key=True, autoincrement=True),
        sa.Column("openid", _text(MAX_OPENID), nullable=False, unique=True),
        sa.Column("receive_status", sa.SmallInteger, nullable=False, server_default="1"),
        # Of the account's time zone, as `:now` is: for people, and for the site's own queries.
        *(sa.Column(moment, _seconds()) for moment in ("first_seen_at", "seen_at", "gone_at")),
        sa.Column("seen_pass", _bigint(), nullable=False, server_default="0"),
        sqlite_autoincrement=True,  # an id means one follower for ever: the ledger goes by it
        **_OF_MYSQL,
    )


SYNC = sa.Table(
    SIDE_TABLE,
    sa.MetaData(),
    sa.Column("followers_table", _text(64), primary_key=True),
    sa.Column("account", _text(191), nullable=False),
    sa.Column("pass_no", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("stage", sa.String(16), nullable=False, server_default="complete"),
    # Milliseconds since 1970.
    sa.Column("begun_at", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("touched_at", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("next_openid", _text(MAX_OPENID * 4), nullable=False, server_default=""),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        for name in ("pages", "seen", "inserted", "returned", "left_out", "total", "known", "top_id", "gone")
    ),
    # WeChat is asked so many times a day.
    sa.Column("calls_day", sa.String(10), nullable=False, server_default=""),
    sa.Column("calls", sa.BigInteger, nullable=False, server_default="0"),
    # Who works on it, and until when at the latest.
    sa.Column("holder", _text(191), nullable=False, server_default=""),
    sa.Column("held_until", sa.BigInteger, nullable=False, server_default="0"),
    **_OF_MYSQL,
)


def missing_tables(connection: sa.Connection, name: str) -> Sequence[str]:
    """Which of the two there are not."""
    inspector = sa.inspect(connection)
    return [one for one in (name, SIDE_TABLE) if not inspector.has_table(one)]


def make_tables(connection: sa.Connection, table: sa.Table) -> None:
    """Make those that are missing; what is there is left as it is."""
    for one in (table, SYNC):
        one.metadata.create_all(connection)


def unfit(connection: sa.Connection, table: sa.Table) -> Sequence[str]:
    """What the table lacks for a sync: sentences, or the statements that add it."""
    inspector = sa.inspect(connection)
    there = {column["name"].lower(): column for column in inspector.get_columns(table.name)}
    quoted = connection.dialect.identifier_preparer.quote(table.name)
    lacks = []
    for column in table.columns:
        if column.name in ("id", "openid") and column.name not in there:
            lacks.append(f"it has no column {column.name}")
        elif column.name not in there and column.name != "receive_status":
            words = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            lacks.append(f"ALTER TABLE {quoted} ADD COLUMN {words};")
    if "openid" in there:
        lacks += _of_the_openids(inspector, table.name, there["openid"]["type"], quoted)
    needed = [name for name, column in there.items() if name not in WRITTEN and _must_be_given(column)]
    if needed:
        lacks.append(f"new rows need a default for: {', '.join(needed)}")
    return lacks


def room_for_openids(connection: sa.Connection, name: str) -> int:
    """How long an openid may be."""
    columns = sa.inspect(connection).get_columns(name)
    kinds = [column["type"] for column in columns if column["name"].lower() == "openid"]
    return min([MAX_OPENID, *(kind.length for kind in kinds if isinstance(kind, sa.String) and kind.length)])


def _must_be_given(column: Mapping[str, Any]) -> bool:
    """Whether a new row without a value for it would be refused, or get a made-up one."""
    numbered = column.get("autoincrement") is True or (
        column.get("primary_key", 0) == 1 and isinstance(column["type"], sa.INTEGER)
    )
    return not column["nullable"] and column["default"] is None and not numbered


def _of_the_openids(
    inspector: sa.Inspector, name: str, kind: sa.types.TypeEngine[object], quoted: str
) -> Sequence[str]:
    lacks = []
    collation = getattr(kind, "collation", None)
    if inspector.dialect.name in ("mysql", "mariadb") and isinstance(kind, sa.String):
        collation = collation or _table_collation(inspector, name)
        if collation and not _CASE_SENSITIVE.search(collation):
            lacks.append(
                f"ALTER TABLE {quoted} MODIFY openid VARCHAR({MAX_OPENID}) COLLATE {_BINARY} NOT NULL;"
                f" (now {collation}: openids that differ in upper and lower case only would be one)"
            )
    keys = [inspector.get_pk_constraint(name)["constrained_columns"]]
    keys += [key["column_names"] for key in inspector.get_unique_constraints(name)]
    keys += [
        [str(one) for one in key["column_names"]] for key in inspector.get_indexes(name) if key["unique"]
    ]
    if ["openid"] not in [[column.lower() for column in key] for key in keys]:
        lacks.append(f"CREATE UNIQUE INDEX {name}_openid ON {quoted} (openid);")
    return lacks


def _table_collation(inspector: sa.Inspector, name: str) -> str | None:
    options = inspector.get_table_options(name)
    return next((str(value) for key, value in options.items() if key.endswith("collate")), None)
