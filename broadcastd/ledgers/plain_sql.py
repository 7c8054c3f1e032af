"""What the ledger says to its database without SQLAlchemy's compiler: sets of rows, often. `?` is a value.

The recorder's statements, jobs that are taken in, how slices stand, single values.

SQLite: rows go in as one JSON value that `json_each` takes apart, on the driver's own connection. The
statement is the same whatever the number of rows, so it is compiled once, and SQLite walks the rows without
the interpreter lock.

MySQL: a statement is a journey to another machine, so each takes all rows, and the leases of all marks are
looked at together. What is used there is in MySQL 5.7 and MariaDB 10.3 already.
"""

import itertools
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from broadcastd.batch import SentOn, SentRow, SliceMark
from broadcastd.frozen import Ids
from broadcastd.model import Lease
from broadcastd.outcomes import Outcome
from broadcastd.states import SliceState

Row = Sequence[Any]

MOST_ROWS = 1000
"""Of one statement: some 150 KB, where the least that a server takes at once (max_allowed_packet) is 1 MB."""
MOST_SLICES = 100
"""Of one statement: half a MB, where their ids are far apart."""


@dataclass(frozen=True)
class Insert:
    """Rows of a table. What becomes of one with the same key that is there, says `when_there`."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    when_there: Literal["conflict", "keep", "replace", "add", "change"] = "conflict"
    """`add`: the last column is a sum, and grows by the new one's. `change`: columns that are not named keep
    what they have. `keep`: the row there stays."""

    @property
    def into(self) -> str:
        """Table and columns."""
        return f"{self.table} ({', '.join(self.columns)})"

    def changes(self, new: str) -> str:
        """The assignments, where `new` is how the database calls the new row."""
        if self.when_there == "add":
            total = self.columns[-1]
            return f"{total} = {self.table}.{total} + {new}.{total}"
        return ", ".join(f"{name} = {new}.{name}" for name in self.columns if name not in self.key)


class PlainSql(ABC):
    """SQL on one connection. Statements have `?` for a value."""

    conflict: type[Exception]
    """What `insert` raises when a row is there already."""

    @abstractmethod
    def __init__(self, connection: sa.Connection) -> None: ...

    @abstractmethod
    def insert(self, what: Insert, rows: Sequence[Row]) -> None:
        """Write rows: all, or none and `conflict` (of up to MOST_ROWS)."""

    @abstractmethod
    def insert_sent(self, on: SentOn, rows: Sequence[SentRow]) -> None:
        """Write outcomes `sent`: all, or none and `conflict` (of up to MOST_ROWS)."""

    @abstractmethod
    def open_slices(self, job_no: int, round_no: int, first_no: int, cut: Sequence[Ids]) -> None:
        """Write open slices, numbered from `first_no`."""

    @abstractmethod
    def among(self, sql: str, of: int | str, these: Collection[int] | Collection[str]) -> Iterator[Row]:
        """Run a statement that ends in `job_no = ? AND recipient_id IN`, or the like; its rows."""

    @abstractmethod
    def rows(self, sql: str, values: Row) -> Sequence[Row]:
        """Run a statement; the rows that it yields."""

    @abstractmethod
    def many_rows(self, width: int, sql: str, values: Row) -> Sequence[Row]:
        """As `rows`, where there may be hundreds, of `width` numbers and texts each."""

    def value(self, sql: str, values: Row) -> Any:
        """The first column of a question's first row; None: there is none."""
        rows = self.rows(sql, values)
        return rows[0][0] if rows else None

    @abstractmethod
    def each(self, sql: str, rows: Sequence[Row]) -> None:
        """Run a statement once a row."""

    @abstractmethod
    def mark(self, marks: Sequence[SliceMark], now_ms: int) -> Collection[int]:
        """Move the marks of the leases that are valid; the tokens of those."""

    @abstractmethod
    def lease(self, job_no: int, tokens: Mapping[int, int], owner: str, until_ms: int) -> None:
        """Lease slices, each under its token (by its number)."""


_OF_JSON = "(SELECT value FROM json_each(?))"
# The job is in the rows, too: else SQLite would look at all of its slices, and for each of them at all rows.
_VALID = "job_no = value ->> 0 AND no = value ->> 1 AND lease = value ->> 2 AND lease_until > ?2"
_MARK = f"UPDATE slices SET mark = coalesce(value ->> 3, mark) FROM json_each(?1) WHERE {_VALID}"  # noqa: S608 - our names
_MARKED = f"SELECT lease FROM json_each(?1) CROSS JOIN slices WHERE {_VALID}"  # noqa: S608 - our names
_LEASE = (
    "UPDATE slices SET state = ?1, owner = ?2, lease_until = ?3, lease = value ->> 2 FROM json_each(?4)"
    " WHERE job_no = value ->> 0 AND no = value ->> 1"
)


_INTO_OUTCOMES = "INSERT INTO outcomes (job_no, recipient_id, openid, outcome, channel, errcode, at, round)"
_INTO_SLICES = "INSERT INTO slices (job_no, no, first_id, last_id, size, ids, state, due_at, round)"
_SLICES = (
    "SELECT ?1, ?2 + key, value ->> 0, value ->> 1, value ->> 2, substr(?3, value ->> 3, value ->> 4),"
    " ?4, 0, ?5 FROM json_each(?6)"
)
_SENT = "SELECT ?1, value ->> 0, value ->> 1, ?2, ?3, 0, value ->> 2, ?4 FROM json_each(?5)"


class SqlitePlainSql(PlainSql):
    """On the driver's connection, without SQLAlchemy."""

    conflict = sqlite3.IntegrityError

    def __init__(self, connection: sa.Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver

    def insert(self, what: Insert, rows: Sequence[Row]) -> None:
        """See `PlainSql`."""
        values = ", ".join(f"value ->> {at}" for at in range(len(what.columns)))
        sql = f"INSERT INTO {what.into} SELECT {values} FROM json_each(?) WHERE true"  # noqa: S608 - our names
        if what.when_there == "keep":
            sql += " ON CONFLICT DO NOTHING"
        elif what.when_there != "conflict":
            sql += f" ON CONFLICT ({', '.join(what.key)}) DO UPDATE SET {what.changes('excluded')}"
        self._driver.execute(sql, (orjson.dumps(rows).decode(),))

    def insert_sent(self, on: SentOn, rows: Sequence[SentRow]) -> None:
        """See `PlainSql`."""
        same = (on.job_no, Outcome.SENT.value, on.channel, on.round_no)
        self._driver.execute(f"{_INTO_OUTCOMES} {_SENT}", (*same, orjson.dumps(rows).decode()))

    def open_slices(self, job_no: int, round_no: int, first_no: int, cut: Sequence[Ids]) -> None:
        """See `PlainSql`. JSON has no bytes: those of all slices are one value, and each takes its part."""
        ends = itertools.accumulate((len(ids.packed) for ids in cut), initial=1)
        rows = [
            (ids.first, ids.last, len(ids), at, len(ids.packed)) for ids, at in zip(cut, ends, strict=False)
        ]
        packed = b"".join([ids.packed for ids in cut])
        values = (job_no, first_no, packed, SliceState.OPEN.value, round_no, orjson.dumps(rows).decode())
        self._driver.execute(f"{_INTO_SLICES} {_SLICES}", values)

    def among(self, sql: str, of: int | str, these: Collection[int] | Collection[str]) -> Iterator[Row]:
        """See `PlainSql`."""
        return self._driver.execute(f"{sql} {_OF_JSON}", (of, orjson.dumps(list(these)).decode()))

    def rows(self, sql: str, values: Row) -> Sequence[Row]:
        """See `PlainSql`."""
        return self._driver.execute(sql, values).fetchall()

    def many_rows(self, width: int, sql: str, values: Row) -> Sequence[Row]:
        """See `PlainSql`. As one row: at each, the driver lets go of the interpreter lock.

        While the event loop is busy, 500 rows took 13 ms so, of which 2.5 were work; in one 0.3.
        """
        names = ", ".join(f"c{at}" for at in range(width))
        whole = f"SELECT json_group_array(json_array({names})) FROM found"  # noqa: S608 - our names
        ((found,),) = self._driver.execute(f"WITH found ({names}) AS ({sql}) {whole}", values)
        rows: Sequence[Row] = orjson.loads(found)
        return rows

    def each(self, sql: str, rows: Sequence[Row]) -> None:
        """See `PlainSql`."""
        self._driver.executemany(sql, rows)

    def mark(self, marks: Sequence[SliceMark], now_ms: int) -> Collection[int]:
        """See `PlainSql`."""
        leases, upto = _of_marks(marks)
        rows = [(one.job_no, one.slice_no, token, upto.get(token)) for token, one in leases.items()]
        values = (orjson.dumps(rows).decode(), now_ms)
        if self._driver.execute(_MARK, values).rowcount == len(leases):
            return leases.keys()
        return {token for (token,) in self._driver.execute(_MARKED, values)}

    def lease(self, job_no: int, tokens: Mapping[int, int], owner: str, until_ms: int) -> None:
        """See `PlainSql`."""
        rows = orjson.dumps([(job_no, no, token) for no, token in tokens.items()]).decode()
        self._driver.execute(_LEASE, (SliceState.LEASED.value, owner, until_ms, rows))


class MysqlPlainSql(PlainSql):
    """Through SQLAlchemy's connection, which knows how to wait for the driver."""

    conflict = sa.exc.IntegrityError

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def insert(self, what: Insert, rows: Sequence[Row]) -> None:
        """See `PlainSql`."""
        write = self._put if what.when_there in ("conflict", "replace") else self._merge
        for at in range(0, len(rows), MOST_ROWS):
            write(what, rows[at : at + MOST_ROWS])

    def insert_sent(self, on: SentOn, rows: Sequence[SentRow]) -> None:
        """See `PlainSql`."""
        one = f"({on.job_no}, ?, ?, '{Outcome.SENT.value}', ?, 0, ?, {on.round_no})"
        values = [value for row in rows for value in (row[0], row[1], on.channel, row[2])]
        self._run(f"{_INTO_OUTCOMES} VALUES {', '.join([one] * len(rows))}", values)

    def open_slices(self, job_no: int, round_no: int, first_no: int, cut: Sequence[Ids]) -> None:
        """See `PlainSql`."""
        numbered = list(enumerate(cut, first_no))
        for at in range(0, len(numbered), MOST_SLICES):
            some = numbered[at : at + MOST_SLICES]
            one = f"({job_no}, ?, ?, ?, ?, ?, '{SliceState.OPEN.value}', 0, {round_no})"
            values = _flat([(no, ids.first, ids.last, len(ids), ids.packed) for no, ids in some])
            self._run(f"{_INTO_SLICES} VALUES {', '.join([one] * len(some))}", values)

    def _put(self, what: Insert, rows: Sequence[Row]) -> None:
        verb = "REPLACE" if what.when_there == "replace" else "INSERT"
        one = f"({', '.join('?' * len(what.columns))})"
        # Not INSERT IGNORE: that would cut values that are too long, too.
        keep = f" ON DUPLICATE KEY UPDATE {what.key[0]} = {what.key[0]}" if what.when_there == "keep" else ""
        self._run(f"{verb} INTO {what.into} VALUES {', '.join([one] * len(rows))}{keep}", _flat(rows))

    def _merge(self, what: Insert, rows: Sequence[Row]) -> None:
        """Without the function VALUES(): it is deprecated in MySQL, and MariaDB lacks its successor."""
        first = ", ".join(f"? AS {column}" for column in what.columns)
        one = ", ".join("?" * len(what.columns))
        fresh = " UNION ALL ".join([f"SELECT {first}", *[f"SELECT {one}"] * (len(rows) - 1)])
        self._run(
            f"INSERT INTO {what.into} SELECT * FROM ({fresh}) AS fresh"  # noqa: S608 - our names
            f" ON DUPLICATE KEY UPDATE {what.changes('fresh')}",
            _flat(rows),
        )

    def among(self, sql: str, of: int | str, these: Collection[int] | Collection[str]) -> Iterator[Row]:
        """See `PlainSql`."""
        found = self._run(f"{sql} ({', '.join('?' * len(these))})", [of, *these])
        return iter(found.all() if found.returns_rows else ())

    def rows(self, sql: str, values: Row) -> Sequence[Row]:
        """See `PlainSql`."""
        found = self._run(sql, values)
        return found.all() if found.returns_rows else ()

    def many_rows(self, width: int, sql: str, values: Row) -> Sequence[Row]:
        """See `PlainSql`."""
        del width
        return self.rows(sql, values)

    def each(self, sql: str, rows: Sequence[Row]) -> None:
        """See `PlainSql`."""
        for row in rows:
            self._run(sql, row)

    def mark(self, marks: Sequence[SliceMark], now_ms: int) -> Collection[int]:
        """See `PlainSql`. The rows are held until the commit: no lease can be lost in between."""
        if not marks:
            return ()
        leases, upto = _of_marks(marks)
        held = " OR ".join(["(job_no = ? AND no = ? AND lease = ?)"] * len(leases))
        names = _flat([(one.job_no, one.slice_no, one.token) for one in leases.values()])
        sql = f"SELECT lease FROM slices WHERE lease_until > ? AND ({held}) FOR UPDATE"  # noqa: S608 - our names
        valid = set(self._run(sql, [now_ms, *names]).scalars())
        upto = {token: mark for token, mark in upto.items() if token in valid}
        if upto:
            cases = " ".join(["WHEN ? THEN ?"] * len(upto))
            these = " OR ".join(["(job_no = ? AND no = ?)"] * len(upto))
            sql = f"UPDATE slices SET mark = CASE lease {cases} ELSE mark END WHERE {these}"  # noqa: S608 - our names
            slices = [(leases[token].job_no, leases[token].slice_no) for token in upto]
            self._run(sql, [*_flat(list(upto.items())), *_flat(slices)])
        return valid

    def lease(self, job_no: int, tokens: Mapping[int, int], owner: str, until_ms: int) -> None:
        """See `PlainSql`."""
        cases = " ".join(["WHEN ? THEN ?"] * len(tokens))
        these = ", ".join("?" * len(tokens))
        sql = (
            f"UPDATE slices SET state = ?, owner = ?, lease_until = ?, lease = CASE no {cases} END"  # noqa: S608 - our names
            f" WHERE job_no = ? AND no IN ({these})"
        )
        values = [SliceState.LEASED.value, owner, until_ms, *_flat(list(tokens.items())), job_no, *tokens]
        self._run(sql, values)

    def _run(self, sql: str, values: Row) -> "sa.CursorResult[Any]":
        return self._connection.exec_driver_sql(sql.replace("?", "%s"), tuple(values))


def _of_marks(marks: Sequence[SliceMark]) -> tuple[dict[int, Lease], dict[int, int]]:
    """Token to lease of each, and token to the last mark of those that have one: one may be there twice."""
    leases = {mark.lease.token: mark.lease for mark in marks}
    return leases, {one.lease.token: one.upto for one in marks if one.upto is not None}


def _flat(rows: Sequence[Row]) -> list[Any]:
    return [value for row in rows for value in row]


STATEMENTS: Mapping[str, type[PlainSql]] = {"sqlite": SqlitePlainSql, "mysql": MysqlPlainSql}


def plain_sql_of(connection: sa.Connection) -> PlainSql:
    """Those of the connection's database."""
    return STATEMENTS[connection.dialect.name](connection)
