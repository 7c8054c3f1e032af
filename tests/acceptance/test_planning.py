"""Planning survives a kill: everybody is frozen once, whoever was frozen before."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.mariadb import PrivateMariaDb
from bed.ports import eventually
from bed.site import mariadb_site

from broadcastd.frozen import unpack_ids

FOLLOWERS = 200_000


def _rows(ledger: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


def test_a_kill_while_the_audience_is_read_freezes_nobody_twice(
    tmp_path: Path, mariadb: PrivateMariaDb
) -> None:
    url = mariadb_site(mariadb, FOLLOWERS)
    # Few tasks and slow answers: what is looked at is the planning, not the sending.
    with (
        counting_endpoint(latency_s=1) as endpoint,
        daemon_process(tmp_path, endpoint.url, url, pool="tasks = 1\nslice_size = 100") as daemon,
    ):
        daemon.call({"content": "planned under fire", "key": "k"})
        for _ in range(3):
            ledger, before = daemon.ledger, _rows(daemon.ledger, "SELECT recipients, planned FROM jobs")[0]
            eventually(
                lambda ledger=ledger, before=before: (
                    _rows(ledger, "SELECT recipients, planned FROM jobs")[0] != before or before[1]
                ),
                what="planning goes on",
            )
            daemon.kill()
            daemon.start()
        eventually(lambda: _rows(daemon.ledger, "SELECT planned FROM jobs") == [(1,)], 60, "it is planned")
        frozen = [one for row in _rows(daemon.ledger, "SELECT ids FROM slices") for one in unpack_ids(row[0])]
        recipients = _rows(daemon.ledger, "SELECT recipients FROM jobs")[0][0]
    assert recipients == len(frozen) == FOLLOWERS
    assert sorted(frozen) == [number * 2 for number in range(1, FOLLOWERS + 1)]
