"""An outside look at the ledger's file, by plain SQL: do the books agree with the rows?"""

import random
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from broadcastd.frozen import unpack_ids

PATIENCE_S = 20
"""A start of the daemon may have the file to itself for a moment."""

UNTALLIED = """
SELECT * FROM (SELECT job_no, outcome, channel, errcode, count(*) AS n FROM outcomes GROUP BY 1, 2, 3, 4
 UNION ALL SELECT job_no, outcome, channel, errcode, -n FROM tallies)
GROUP BY job_no, outcome, channel, errcode HAVING sum(n) <> 0
"""
TWICE_IN_A_ROUND = """
SELECT job_no, recipient_id, round, count(*) FROM
 (SELECT job_no, recipient_id, round FROM outcomes
  UNION ALL SELECT job_no, recipient_id, round FROM former_outcomes)
GROUP BY 1, 2, 3 HAVING count(*) > 1
"""
ROUNDS = """
SELECT r.job_no, r.no, r.recipients, r.ended,
 (SELECT count(*) FROM outcomes o WHERE o.job_no = r.job_no AND o.round = r.no)
  + (SELECT count(*) FROM former_outcomes f WHERE f.job_no = r.job_no AND f.round = r.no)
FROM rounds r
"""


@contextmanager
def outside(ledger: Path) -> Iterator[sqlite3.Connection]:
    """One unchanging look at it."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=PATIENCE_S)) as database:
        database.isolation_level = None
        database.execute("BEGIN")
        yield database


def rows(ledger: Path, sql: str, *values: Any) -> list[Any]:
    """What a query yields."""
    with outside(ledger) as database:
        return database.execute(sql, values).fetchall()


def check_books(ledger: Path) -> None:
    """Fail unless tallies, rounds, frozen ids and outcomes agree, for every job, at this very moment."""
    with outside(ledger) as database:
        assert database.execute(UNTALLIED).fetchall() == [], "tallies are not the counts"
        assert database.execute(TWICE_IN_A_ROUND).fetchall() == [], "two outcomes in one round"
        frozen = _frozen(database)
        for job_no, round_no, recipients, ended, counted in database.execute(ROUNDS):
            ids = frozen.get((job_no, round_no), [])
            assert len(ids) == len(set(ids)) == recipients, f"frozen ids of {job_no}/{round_no}"
            assert ended == counted, f"ended of {job_no}/{round_no}"
        for job_no, recipients, state in database.execute("SELECT no, recipients, state FROM jobs"):
            ids = set(frozen.get((job_no, 1), []))
            assert recipients == len(ids)
            ended = {one[0] for one in _ended(database, job_no)}
            assert ended <= ids, f"outcomes of people that nobody froze in {job_no}"
            if state in ("done", "cancelled", "expired"):
                assert ended == ids, f"job {job_no} is {state}, its books do not balance"


def _frozen(database: sqlite3.Connection) -> dict[tuple[int, int], list[int]]:
    frozen: dict[tuple[int, int], list[int]] = {}
    for job_no, round_no, size, ids in database.execute("SELECT job_no, round, size, ids FROM slices"):
        unpacked = list(unpack_ids(ids))
        assert len(unpacked) == size
        frozen.setdefault((job_no, round_no), []).extend(unpacked)
    return frozen


def _ended(database: sqlite3.Connection, job_no: int) -> Iterable[Any]:
    return database.execute("SELECT recipient_id FROM outcomes WHERE job_no = ?", (job_no,)).fetchall()


def unmarked(ledger: Path, job_id: str, asked: Iterable[int]) -> set[int]:
    """Of those who were asked: who stands neither at or below a mark nor armed. Nobody may."""
    with outside(ledger) as database:
        (job_no,) = database.execute("SELECT no FROM jobs WHERE id = ?", (job_id,)).fetchone()
        below: set[int] = set()
        for mark, ids in database.execute(
            "SELECT mark, ids FROM slices WHERE job_no = ? AND mark IS NOT NULL", (job_no,)
        ):
            below.update(one for one in unpack_ids(ids) if one <= mark)
    return set(asked) - below


class Auditor:
    """Looks at the books at random moments, beside a running daemon."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_again, name="auditor")
        self.looks = 0
        self.found: list[AssertionError] = []

    def _look_again(self) -> None:
        while not self._stop.wait(random.uniform(0.05, 0.8)):
            try:
                check_books(self._ledger)
            except AssertionError as error:
                self.found.append(error)
            self.looks += 1

    def __enter__(self) -> "Auditor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
