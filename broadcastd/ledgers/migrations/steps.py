"""The operations of the migrations, each safe to run again.

MySQL commits with every change of a table: after a kill in the middle, the migration runs anew from its
first operation, and each looks what is there already.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op


def make_table(name: str, *parts: Any, without_rowid: bool = False) -> None:
    """Make a table. It comes with its keys, without its indexes: those are made one by one."""
    if not _look().has_table(name):
        op.create_table(name, *parts, sqlite_with_rowid=not without_rowid)


def make_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Make an index."""
    if name not in {index["name"] for index in _look().get_indexes(table)}:
        op.create_index(name, table, columns)


def add_column(table: str, column: "sa.Column[Any]") -> None:
    """Add a column."""
    if column.name not in {there["name"] for there in _look().get_columns(table)}:
        op.add_column(table, column)


def _look() -> "sa.Inspector":
    # A new one each time: it remembers what it has seen.
    return sa.inspect(op.get_bind())
