"""The doctor at a real MariaDB: plans, ids, openids, rights, clock, and a ledger there."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess
from bed.doctor import NOWHERE, ask_doctor, finding_of, verdicts_of
from bed.mariadb import PASSWORD, PrivateMariaDb
from bed.site import mariadb_site, openid

from broadcastd.doctor.finding import Verdict

ROWS = 3000
"""More than may be read for a slice unnoticed (queries.FEW_ROWS)."""
OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED
CALLBACK = '[accounts.default.callback]\ntoken = "abc123"'


@pytest.fixture
def site(mariadb: PrivateMariaDb) -> PrivateMariaDb:
    mariadb_site(mariadb, ROWS)
    return mariadb


def settings(folder: Path, url: str, **more: Any) -> Path:
    return DaemonProcess(folder, NOWHERE, url, **more).settings


def query(sql: str) -> str:
    return f'query = "{sql}"'


def test_a_site_that_is_well(tmp_path: Path, site: PrivateMariaDb) -> None:
    told = ask_doctor(settings(tmp_path, site.url), "audience")
    assert verdicts_of(told) == {
        "audience": OK, "audience-server": OK, "audience-ids": OK, "audience-openids": OK,
        "audience-plan": OK, "audience-now": OK, "audience-rights": WARN,
    }  # fmt: skip
    seen = {one.check: one.finding.seen for one in told}
    assert "MariaDB" in seen["audience"]
    assert f"{ROWS:,} are eligible (ids 2 to {2 * ROWS})" in seen["audience-ids"]
    assert "by PRIMARY" in seen["audience-plan"]
    assert "as the type of expire_time" in seen["audience-now"]
    assert "ALL PRIVILEGES on site.*" in seen["audience-rights"]


def test_a_full_scan_names_the_index(tmp_path: Path, site: PrivateMariaDb) -> None:
    site.run("ALTER TABLE tp_receiver MODIFY id INT, DROP PRIMARY KEY")
    path = settings(tmp_path, site.url)
    found = finding_of(path, "audience-plan")
    assert found.verdict is WARN
    (mend,) = found.mend
    site.run(mend)
    assert finding_of(path, "audience-plan").verdict is OK


def test_a_query_that_is_worked_out_whole(tmp_path: Path, site: PrivateMariaDb) -> None:
    sql = "SELECT min(id) AS id, openid FROM tp_receiver GROUP BY openid"
    found = finding_of(settings(tmp_path, site.url, more=query(sql)), "audience-plan")
    assert found.verdict is WARN
    assert "worked out whole" in found.seen


def test_ids_that_are_texts(tmp_path: Path, site: PrivateMariaDb) -> None:
    site.run("ALTER TABLE tp_receiver MODIFY id VARCHAR(20)")
    found = finding_of(settings(tmp_path, site.url), "audience-ids")
    assert found.verdict is FAIL
    assert "out of order" in found.seen
    assert "CAST(id AS SIGNED)" in found.mend[0]


def test_repeated_and_empty_openids(tmp_path: Path, site: PrivateMariaDb) -> None:
    site.run(
        f"UPDATE tp_receiver SET openid = '{openid(7)}' WHERE id IN (20, 22);"
        "UPDATE tp_receiver SET openid = '' WHERE id = 30;"
        # Not the same, although MySQL's order says so.
        "UPDATE tp_receiver SET openid = 'oAb' WHERE id = 40;"
        "UPDATE tp_receiver SET openid = 'oaB' WHERE id = 42"
    )
    told = ask_doctor(settings(tmp_path, site.url), "audience-openids")
    repeated, empty = (one.finding for one in told)
    assert (repeated.verdict, empty.verdict) == (WARN, WARN)
    assert "2, as id 14:" in repeated.seen
    assert "1, one of them that of id 30:" in empty.seen
    assert not any(openid(7) in one.finding.seen for one in told)


def test_ids_that_come_twice_or_not_at_all(tmp_path: Path, site: PrivateMariaDb) -> None:
    sql = (
        "SELECT id, openid FROM tp_receiver UNION ALL SELECT id, openid FROM tp_receiver WHERE id = 6"
        " UNION ALL SELECT NULL, 'oX'"
    )
    told = ask_doctor(settings(tmp_path, site.url, more=query(sql)), "audience-ids")
    assert [one.finding.verdict for one in told] == [FAIL, FAIL]
    assert {one.finding.seen.split(":")[0] for one in told} == {"ids that are repeated", "ids that are NULL"}


def test_nobody_is_eligible(tmp_path: Path, site: PrivateMariaDb) -> None:
    site.run("UPDATE tp_receiver SET receive_status = 0")
    told = ask_doctor(settings(tmp_path, site.url), "audience-ids", "audience-plan")
    assert verdicts_of(told) == {"audience-ids": WARN, "audience-plan": SKIPPED}


def test_a_query_of_what_is_not_there(tmp_path: Path, site: PrivateMariaDb) -> None:
    path = settings(tmp_path, site.url, more=query("SELECT id, openid FROM tp_gone"))
    found = finding_of(path, "audience-ids")
    assert found.verdict is FAIL
    assert "tp_gone" in found.seen
    assert "correct audience.query" in found.mend[0]
    assert finding_of(path, "audience-plan").verdict is SKIPPED


def test_now_as_the_column_asks(tmp_path: Path, site: PrivateMariaDb) -> None:
    site.run("ALTER TABLE tp_receiver MODIFY expire_time INT")
    assert "seconds since 1970" in finding_of(settings(tmp_path, site.url), "audience-now").seen


def test_a_wrong_password_and_no_server(tmp_path: Path, site: PrivateMariaDb) -> None:
    wrong = site.url.replace(PASSWORD, "not-the-password")
    told = ask_doctor(settings(tmp_path, wrong), "audience")
    assert {one.finding.verdict for one in told} <= {FAIL, SKIPPED}
    assert "refuses the password (1045)" in told[0].finding.seen
    assert "-u site -p site" in told[0].finding.mend[0]
    assert not any("not-the-password" in str(one) for one in told)
    away = finding_of(settings(tmp_path, "mysql://u:p@127.0.0.1:9/site"), "audience")
    assert (away.verdict, "cannot be reached" in away.seen) == (FAIL, True)


def test_servers_that_hang_keep_nobody(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        url = f"mysql://u:p4ssw0rd@127.0.0.1:{silent.getsockname()[1]}"
        path = settings(tmp_path, f"{url}/site", ledger_url=f"{url}/ledger")
        told = ask_doctor(path, "audience", "ledger", "token", "quota")
    failed = {one.check: one.finding for one in told if one.finding.verdict is not SKIPPED}
    assert set(failed) == {"audience", "ledger", "token"}
    assert all("does not answer" in one.seen or "no answer" in one.seen for one in failed.values())
    assert all(one.mend for one in failed.values())


@pytest.fixture
def reader(site: PrivateMariaDb) -> Iterator[str]:
    """The address with a user that may only read, in rows too few to be known by an index."""
    site.run(
        "CREATE USER reader@127.0.0.1 IDENTIFIED BY 'reads-0nly'; GRANT SELECT ON site.* TO reader@127.0.0.1"
    )
    yield site.url.replace(f"site:{PASSWORD}", "reader:reads-0nly")
    site.run("DROP USER reader@127.0.0.1")


def test_rights(tmp_path: Path, site: PrivateMariaDb, reader: str) -> None:
    told = ask_doctor(settings(tmp_path, reader), "audience-rights", "callback-sql")
    assert verdicts_of(told) == {"audience-rights": OK, "callback-sql": SKIPPED}
    path = settings(tmp_path, reader, account=CALLBACK)
    told = ask_doctor(path, "callback-sql")
    assert [one.finding.verdict for one in told] == [FAIL]
    assert told[0].finding.seen.startswith("opt_out_sql, opt_in_sql, unsubscribe_sql: ")
    assert "GRANT UPDATE ON site.tp_receiver TO" in told[0].finding.mend[0]
    site.run("GRANT UPDATE ON site.tp_receiver TO reader@127.0.0.1")
    scans = ask_doctor(path, "callback-sql")
    assert [one.finding.verdict for one in scans] == [WARN]
    site.run(scans[0].finding.mend[0])
    assert verdicts_of(ask_doctor(path, "callback-sql", "audience-rights")) == {
        "callback-sql": OK, "audience-rights": OK,
    }  # fmt: skip
    assert site.run("SELECT count(*) FROM tp_receiver WHERE receive_status = 0").strip() == "0"


def test_a_statement_that_is_wrong(tmp_path: Path, site: PrivateMariaDb) -> None:
    callback = CALLBACK + '\nopt_out_sql = "UPDATE tp_receiver SET no_such = 0 WHERE openid = :openid"'
    told = ask_doctor(settings(tmp_path, site.url, account=callback), "callback-sql")
    wrong = [one.finding for one in told if one.finding.verdict is FAIL]
    assert len(wrong) == 1
    assert wrong[0].seen.startswith("opt_out_sql: ")


def test_a_database_whose_clock_is_wrong(tmp_path: Path, site: PrivateMariaDb) -> None:
    path = settings(tmp_path, site.url)
    assert finding_of(path, "clock").verdict is OK
    site.rows("SET GLOBAL init_connect = 'SET SESSION timestamp = 1700000000'")
    try:
        found = finding_of(path, "clock")
    finally:
        site.rows("SET GLOBAL init_connect = ''")
    assert found.verdict is FAIL
    assert "ahead of that of the site's database" in found.seen


def test_a_primary_that_takes_no_changes(tmp_path: Path, site: PrivateMariaDb) -> None:
    path = settings(tmp_path, site.url, account=CALLBACK)
    site.rows("SET GLOBAL read_only = 1")
    try:
        assert finding_of(path, "audience-server").verdict is FAIL
    finally:
        site.rows("SET GLOBAL read_only = 0")


def test_a_ledger_in_mariadb(tmp_path: Path, site: PrivateMariaDb) -> None:
    database = site.new_database()
    path = settings(tmp_path, site.url, ledger_url=site.url_of(database))
    before = site.rows("SELECT @@global.innodb_flush_log_at_trx_commit")[0][0]
    try:
        site.rows("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        told = ask_doctor(path, "ledger")
        assert {one.check: one.finding.verdict for one in told} == {
            "ledger": OK, "ledger-copy": SKIPPED, "ledger-disk": SKIPPED, "ledger-pages": SKIPPED,
            "ledger-server": FAIL,
        }  # fmt: skip
        assert "SET GLOBAL innodb_flush_log_at_trx_commit = 1" in told[-1].finding.mend[0]
        site.rows("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
        assert finding_of(path, "ledger-server").verdict is OK
    finally:
        site.rows(f"SET GLOBAL innodb_flush_log_at_trx_commit = {before}")
    assert site.rows("SHOW TABLES", database) == []
    assert verdicts_of(ask_doctor(path, "ledger", offline=True))["ledger"] is SKIPPED
