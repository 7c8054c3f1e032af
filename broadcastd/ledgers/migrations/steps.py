"""The operations of the migrations, each safe to run again.

MySQL commits with every change of a table: after a kill in the middle, the migration runs anew from its
first operation, and each looks what is there already.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

# What `column_types` has, as the steps so far made it: these stay, whatever becomes of those.
_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_row_format": "DYNAMIC",
}
LONG_TEXT = sa.Text().with_variant(LONGTEXT(), "mysql")


def exact_text(length: int) -> "sa.types.TypeEngine[str]":
    """A text that equals itself only, in case and trailing spaces too."""
    return sa.String(length).with_variant(sa.VARBINARY(4 * length), "mysql")


def make_table(name: str, *parts: Any, without_rowid: bool = False) -> None:
    """Make a table. It comes with its keys, without its indexes: those are made one by one."""
    if not _look().has_table(name):
        op.create_table(name, *parts, sqlite_with_rowid=not without_rowid, **_MYSQL)


def make_index(name: str, table: str, columns: Sequence[str], *, unique: bool = False) -> None:
    """Make an index."""
    if name not in {index["name"] for index in _look().get_indexes(table)}:
        op.create_index(name, table, columns, unique=unique)


def add_column(table: str, column: "sa.Column[Any]") -> None:
    """Add a column."""
    if column.name not in {there["name"] for there in _look().get_columns(table)}:
        op.add_column(table, column)


def _look() -> "sa.Inspector":
    # A new one each time: it remembers what it has seen.
    return sa.inspect(op.get_bind())
