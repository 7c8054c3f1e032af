"""Columns that mean the same in every database: what SQLite does by itself, MySQL must be told."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGTEXT

LONG_TEXT = sa.Text().with_variant(LONGTEXT(), "mysql")
"""MySQL's TEXT ends at 64 KB: a frame's content may be longer."""


class ExactText(sa.types.TypeDecorator[str]):
    """A text that equals itself only: case and trailing spaces count.

    MySQL's collations take `k`, `K` and `k ` for one; those that do not are named differently in MySQL and in
    MariaDB. Bytes are compared alike everywhere, so there it is the text's UTF-8.
    """

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._length = length

    def load_dialect_impl(self, dialect: sa.Dialect) -> "sa.types.TypeEngine[Any]":
        """VARBINARY, with 4 bytes a character, in MySQL."""
        if dialect.name != "mysql":
            return dialect.type_descriptor(sa.String(self._length))
        return dialect.type_descriptor(sa.VARBINARY(4 * self._length))

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        """To what the driver takes."""
        return value.encode() if value is not None and dialect.name == "mysql" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        """From what the driver yields."""
        return value.decode() if isinstance(value, bytes) else value
