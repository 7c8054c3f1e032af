"""The ledger, read with plain SQL from outside. Columns are named: the tables may gain others."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broadcastd.selftest.errors import SelftestStoppedError

BUSY_S = 30.0


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger holds of one job."""

    job: str
    state: str
    frozen: int
    in_doubt: int
    outcomes: dict[str, int]
    unknown: frozenset[int]
    """Ids of the recipients that are listed as unknown."""


def in_doubt(ledger: Path) -> int:
    """How many were ever in doubt, over all jobs; 0 when there is no ledger yet."""
    if not ledger.exists():
        return 0
    with _open(ledger) as database:
        try:
            return int(database.execute("SELECT coalesce(sum(in_doubt), 0) FROM jobs").fetchone()[0])
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return 0  # ended before it had made its tables
            raise


def read_books(ledger: Path) -> dict[str, list[Books]]:
    """Key to the jobs that have it: one, unless something is wrong."""
    found: dict[str, list[Books]] = {}
    if not ledger.exists():
        return found
    with _open(ledger) as database:
        for no, job, key, state, frozen, doubts in database.execute(
            "SELECT no, id, key, state, recipients, in_doubt FROM jobs ORDER BY no"
        ):
            outcomes = database.execute(
                "SELECT outcome, count(*) FROM outcomes WHERE job_no = ? GROUP BY outcome", (no,)
            )
            unknown = database.execute(
                "SELECT recipient_id FROM outcomes WHERE job_no = ? AND outcome = 'unknown'", (no,)
            )
            books = Books(job, state, frozen, doubts, dict(outcomes), frozenset(one for (one,) in unknown))
            found.setdefault(key, []).append(books)
    return found


@contextlib.contextmanager
def _open(ledger: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", BUSY_S, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise SelftestStoppedError(f"the ledger cannot be read: {error}") from error
