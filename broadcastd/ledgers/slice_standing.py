"""How the recipients of some slices stand: who has ended, who is put off. Asked for many slices at a time.

One statement whatever the number of slices: of a lease for 60 tasks, SQLAlchemy's statements were 55 ms. Each
part has the bounds of its slice, so that the primary keys serve it whatever the size of the job.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from broadcastd.frozen import unpack_ids
from broadcastd.ledgers.plain_sql import plain_sql_of

MOST_PARTS = 100
"""Of one statement: SQLite takes 500."""


class PutOff(NamedTuple):
    """A row of `deferrals`; times are in milliseconds."""

    slice_no: int
    due_at: int
    recipient_id: int
    channel_no: int
    tries: int
    doubts: int
    refusals: int
    armed: bool


@dataclass(slots=True)
class Standing:
    """Of one slice."""

    ids: Sequence[int]
    ended: set[int] = field(default_factory=set)
    """Who has an outcome of its round, among them maybe some of another slice."""
    put_off: list[PutOff] = field(default_factory=list)
    """The first due first. Without who has an outcome: one that came late, under a lost lease, does not know
    of the deferral."""

    @property
    def left(self) -> Sequence[int]:
        """Who has no outcome."""
        return [one for one in self.ids if one not in self.ended] if self.ended else self.ids


_ENDED = (
    "SELECT ?, recipient_id FROM outcomes WHERE job_no = ? AND recipient_id BETWEEN ? AND ? AND round >= ?"
)
_PUT_OFF = (
    f"SELECT {', '.join(PutOff._fields)} FROM deferrals"  # noqa: S608 - our names
    " WHERE slice_no = ? AND job_no = ? AND recipient_id BETWEEN ? AND ? AND NOT EXISTS"
    " (SELECT 1 FROM outcomes WHERE outcomes.job_no = deferrals.job_no"
    " AND outcomes.recipient_id = deferrals.recipient_id AND outcomes.round >= ?)"
)


def standing(connection: sa.Connection, rows: Sequence[Any]) -> Mapping[int, Standing]:
    """Slice number to how it stands. `rows`: of the table `slices`, all of one job."""
    found = {row.no: Standing(unpack_ids(row.ids)) for row in rows}
    bounds = {row.no: (row.no, row.job_no, row.first_id, row.last_id, row.round) for row in rows}
    for no, recipient_id in _each(connection, 2, _ENDED, bounds.values()):
        found[no].ended.add(recipient_id)
    # Not by their numbers: after a split, others between the bounds may have ended, too.
    unfinished = [bounds[no] for no, one in found.items() if not one.ended.issuperset(one.ids)]
    width = len(PutOff._fields)
    for one in sorted(PutOff(*values) for values in _each(connection, width, _PUT_OFF, unfinished)):
        found[one.slice_no].put_off.append(one)
    return found


def _each(
    connection: sa.Connection, width: int, sql: str, rows: Iterable[Sequence[int]]
) -> Iterator[Sequence[Any]]:
    """All rows, `width` wide, that `sql` yields with each of `rows` as its values."""
    plain = plain_sql_of(connection)
    waiting = list(rows)
    for at in range(0, len(waiting), MOST_PARTS):
        some = waiting[at : at + MOST_PARTS]
        parts = " UNION ALL ".join([sql] * len(some))
        yield from plain.many_rows(width, parts, [value for row in some for value in row])
