"""What `:now` must be for the site's own columns: a date and time, or seconds since 1970.

A wrong guess is silent and costs people: MySQL compares the number 1,795,000,000 with a date, or a date with
a number, without complaint. So the type of the column that the query compares with `:now` is looked up.
"""

import re
from typing import Literal

import sqlalchemy as sa

from broadcastd.audiences.engine import Database

NowKind = Literal["datetime", "unix"]

_COLUMN = r"(?:`?\w+`?\s*\.\s*)?`?(\w+)`?"
_COMPARED = re.compile(rf"{_COLUMN}\s*[<>=!]+\s*:now\b|:now\b\s*[<>=!]+\s*{_COLUMN}", re.IGNORECASE)
_TABLE = re.compile(r"\b(?:from|join)\s+(?:`?\w+`?\s*\.\s*)?`?(\w+)`?", re.IGNORECASE)
_NUMBERS = ("int", "decimal", "numeric", "double", "float", "real")

_OF_MYSQL = sa.text(
    "SELECT data_type FROM information_schema.columns WHERE table_schema = database()"
    " AND table_name = :table AND column_name = :column"
)
_OF_SQLITE = sa.text("SELECT type FROM pragma_table_info(:table) WHERE lower(name) = lower(:column)")


async def now_kind(database: Database, query: str) -> NowKind:
    """Of the column beside `:now`; "datetime" when it cannot be told. Raises AudienceUnavailableError."""
    column = compared_column(query)
    if column is None:
        return "datetime"
    look_up = _OF_MYSQL if database.engine.dialect.name == "mysql" else _OF_SQLITE
    async with database.connection() as connection:
        for table in _TABLE.findall(query):
            found = (await connection.execute(look_up, {"table": table, "column": column})).first()
            if found is not None:
                return "unix" if any(word in str(found[0]).lower() for word in _NUMBERS) else "datetime"
    return "datetime"


def compared_column(query: str) -> str | None:
    """The name of the column that `query` compares with `:now`."""
    found = _COMPARED.search(query)
    return None if found is None else found[1] or found[2]
