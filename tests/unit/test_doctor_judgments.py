"""What the doctor makes of ledgers, databases and the API. Facts in, findings out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from broadcastd.audiences.inspection import Flaw, Ids, Openids, Server, Step
from broadcastd.channels.inspection import Reach
from broadcastd.doctor import audience, ledger
from broadcastd.doctor.finding import Verdict
from broadcastd.doctor.queries import FEW_ROWS, judge_plan, judge_rights, judge_statement, tables_of
from broadcastd.doctor.subject import Token
from broadcastd.doctor.wechat import judge_clock, judge_no_token, judge_reach, judge_token
from broadcastd.ledgers.inspection import Seen
from broadcastd.ledgers.migration import HEAD, Age, Found
from broadcastd.outcomes import Answer
from broadcastd.settings import AccountSettings, AudienceSettings
from broadcastd.transports.endings import UNTRUSTED

MB = 1024 * 1024
NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def verdicts(findings):
    return [finding.verdict for finding in findings]


# -- the ledger


@pytest.mark.parametrize(
    ("age", "version", "itself", "verdict", "words"),
    [
        (Age.NEW, "", True, OK, "the first start makes it"), (Age.PRESENT, HEAD, True, OK,
         "nobody works on it"),
        (Age.OLD, "0001", True, WARN, "the next start upgrades it"), (Age.OLD, "0001", False, FAIL,
         "works with"),
        (Age.NEWER, "9999", True, FAIL, "has version 9999"),
    ],
)  # fmt: skip
def test_the_ledgers_version(age, version, itself, verdict, words):
    found = ledger.judge_version("here", Seen(Found(age, version)), upgrades_itself=itself, user=None)
    assert found.verdict is verdict
    assert words in found.seen
    assert bool(found.mend) is (verdict is not OK)


@pytest.mark.parametrize(
    ("free_mb", "verdict"), [(10_000, OK), (320, OK), (319, WARN), (64, WARN), (63, FAIL)]
)
def test_room_on_the_disk(free_mb, verdict):
    assert ledger.judge_room(Path("/var"), free_mb * MB, 64).verdict is verdict


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw - nfs4 nas:/srv rw
31 30 8:2 / /srv/fast rw - xfs /dev/sdb1 rw
32 22 0:41 / /with\\040space rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "found"),
    [("/var/lib", "ext4", []), ("/srv/x", "nfs4", [WARN]), ("/srv/fast/x", "xfs", []),
     ("/with space", "tmpfs", [WARN])],
)  # fmt: skip
def test_the_kind_of_disk(folder, kind, found):
    assert ledger.file_system(Path(folder), MOUNTS) == kind
    assert verdicts(ledger.judge_kind(Path(folder), kind)) == found


def test_pages():
    file = Path("/l.db")
    assert ledger.judge_pages(file, []).verdict is OK
    assert ledger.judge_pages(file, None).verdict is Verdict.SKIPPED
    assert ledger.judge_pages(file, ["row 7 missing from index"]).verdict is FAIL


WELL = {
    "innodb_flush_log_at_trx_commit": "1",
    "log_bin": "ON",
    "sync_binlog": "1",
    "max_allowed_packet": "16777216",
}


@pytest.mark.parametrize(
    ("changes", "verdict", "mend"),
    [
        ({"innodb_flush_log_at_trx_commit": "2"}, FAIL, "SET GLOBAL innodb_flush_log_at_trx_commit = 1"),
        ({"sync_binlog": "0"}, WARN, "SET GLOBAL sync_binlog = 1"),
        ({"max_allowed_packet": "1048576"}, FAIL, "SET GLOBAL max_allowed_packet = 16777216"),
        ({"read_only": "ON"}, FAIL, "primary"),
    ],
)  # fmt: skip
def test_a_ledgers_server(changes, verdict, mend):
    assert verdicts(ledger.judge_server(WELL, "", remote=False)) == [OK]
    (found,) = ledger.judge_server({**WELL, **changes}, "", remote=False)
    assert found.verdict is verdict
    assert mend in found.mend[0]


def test_without_a_binlog_it_need_not_be_synced():
    assert verdicts(
        ledger.judge_server({**WELL, "log_bin": "OFF", "sync_binlog": "0"}, "", remote=False)
    ) == [OK]


def test_a_remote_ledger_without_tls():
    assert verdicts(ledger.judge_server(WELL, "", remote=True)) == [WARN]
    assert verdicts(ledger.judge_server(WELL, "TLS_AES_256_GCM_SHA384", remote=True)) == [OK]


# -- the audience


def test_reaching_the_database():
    near, far = Server("11.4", 0.01), Server("11.4", 0.01, cipher="TLS_AES_256_GCM_SHA384")
    assert verdicts(audience.judge_reached(near, remote=False)) == [OK]
    assert verdicts(audience.judge_reached(near, remote=True)) == [WARN]
    assert verdicts(audience.judge_reached(far, remote=True)) == [OK]
    assert verdicts(audience.judge_reached(Server("11.4", 2.1), remote=False)) == [WARN]


@pytest.mark.parametrize(
    ("facts", "writes", "verdict"),
    [({"read_only": True}, True, FAIL), ({"read_only": True}, False, OK), ({"lag_s": 31}, False, WARN),
     ({"lag_s": 30}, False, OK), ({"wait_timeout_s": 59}, False, WARN), ({"wait_timeout_s": 60}, False, OK),
     ({"most_connections": 9}, False, WARN), ({"most_connections": 10}, False, OK)],
)  # fmt: skip
def test_the_databases_own_settings(facts, writes, verdict):
    settings = AudienceSettings.model_validate({"url": "mysql://u:p@db/site"})
    assert verdicts(audience.judge_server(Server("11.4", 0.01, **facts), settings, writes=writes)) == [
        verdict
    ]


def ids_of(*values):
    ids = Ids(whole=True)
    for value in values:
        ids.take(value)
    return ids


@pytest.mark.parametrize(
    ("values", "flaws"),
    [
        ((1, 2, 9), {}), (("1", "2"), {}), ((-5, 0, 2**63 - 1), {}), ((None, 1), {Flaw.MISSING: 1}),
        ((1, 1, 1, 2), {Flaw.REPEATED: 2}), (("10", "9"), {Flaw.UNORDERED: 1}),
        ((1, 2**63), {Flaw.TOO_LARGE: 1}),
        (("a", 1.5, 2.0), {Flaw.NO_NUMBER: 2}),
    ],
)  # fmt: skip
def test_ids(values, flaws):
    ids = ids_of(*values)
    assert dict(ids.flaws) == flaws
    findings = audience.judge_ids(ids)
    assert verdicts(findings) == ([FAIL] * len(flaws) or [OK])
    assert all(finding.mend for finding in findings if flaws)


def test_a_slice_of_the_ids():
    ids = ids_of(*range(3, 3003, 3))
    assert (ids.first, ids.last_of_slice, ids.last, ids.count) == (3, 1500, 3000, 1000)


def test_ids_without_an_end_and_nobody():
    assert verdicts(audience.judge_ids(Ids(count=7, took_s=8, first=1, last=7))) == [OK]
    assert verdicts(audience.judge_ids(Ids(took_s=8))) == [WARN]
    assert verdicts(audience.judge_ids(Ids(whole=True))) == [WARN]


BLOCKS = st.lists(
    st.lists(st.integers(-3, 12) | st.sampled_from([None, "x", 2**63, 1.5]), max_size=8), max_size=8
)


@given(BLOCKS, st.booleans())
def test_blocks_of_ids_are_as_the_ids_one_by_one(blocks, ascending):
    if ascending:
        blocks = [[n + 10 * no for n in range(len(block))] for no, block in enumerate(blocks)]
    at_once = Ids(whole=True)
    for block in blocks:
        at_once.take_all(block)
    assert at_once == ids_of(*(value for block in blocks for value in block))


def test_a_slice_ends_within_a_block():
    ids = Ids(whole=True)
    for start in range(0, 2000, 200):
        ids.take_all(range(start, start + 199))
    assert (ids.first, ids.last_of_slice, ids.last, ids.count) == (0, 501, 1998, 1990)


def test_openids():
    assert verdicts(audience.judge_openids(Openids(10, 0, 0))) == [OK]
    repeated, empty = audience.judge_openids(Openids(10, 2, 3, "17", "4"))
    assert "3, as id 4" in repeated.seen
    assert "2, one of them that of id 17" in empty.seen


def test_now():
    assert audience.judge_now("x", "expire_time", is_guess=True).verdict is OK
    assert audience.judge_now("x", None, is_guess=False).verdict is OK
    assert audience.judge_now("x", None, is_guess=True).verdict is WARN


# -- plans and rights

QUERY = (
    "SELECT r.uid AS id, r.openid FROM tp_receiver AS r"
    " JOIN `site`.`tp_member` m ON m.rid = r.uid WHERE r.x = 1"
)
PLAIN = "SELECT id, openid FROM tp_receiver WHERE x"


def test_the_tables_of_a_statement():
    assert tables_of(QUERY) == {"r": "tp_receiver", "m": "site.tp_member"}
    assert tables_of(PLAIN) == {"tp_receiver": "tp_receiver"}
    assert tables_of("UPDATE tp_receiver SET x = 0 WHERE openid = :openid") == {"tp_receiver": "tp_receiver"}


def planned(*steps):
    return judge_plan(steps, [Step("r", "index", 9999)], 9999, QUERY)


def test_a_plan_that_is_well():
    (found,) = planned(Step("r", "range", 500, "PRIMARY"), Step("m", "ref", 1, "rid"))
    assert found.verdict is OK
    assert "by PRIMARY" in found.seen


def test_a_full_scan_names_the_index_that_is_missing():
    (found,) = planned(Step("r", "ALL", 9999))
    assert found.verdict is WARN
    assert found.mend == ("ALTER TABLE tp_receiver ADD UNIQUE INDEX broadcastd_uid (uid)",)
    (joined,) = planned(Step("r", "range", 500, "PRIMARY"), Step("m", "ALL", 9999))
    assert "CREATE INDEX broadcastd ON site.tp_member" in joined.mend[0]
    (grouped,) = planned(Step("<derived2>", "ALL", 9999), Step("r", "ALL", 9999, derived=True))
    assert "worked out whole" in grouped.seen


def test_a_small_table_may_be_read_whole():
    assert verdicts(planned(Step("r", "ALL", FEW_ROWS - 1))) == [OK]
    assert verdicts(planned(Step("r", "ALL", FEW_ROWS))) == [WARN]


def test_sqlite_does_not_say_how_many_rows():
    scan = [Step("tp_receiver", "ALL")]
    assert verdicts(judge_plan(scan, [], 9999, PLAIN)) == [WARN]
    assert verdicts(judge_plan(scan, [], 30, PLAIN)) == [OK]


def account(**more):
    return AccountSettings.model_validate(
        {"channels": ["custom"], "audience": {"url": "mysql://u:p@db/site"}, **more}
    )


CALLBACK = {"token": "abc"}


@pytest.mark.parametrize(
    ("grants", "more", "verdict"),
    [
        ([("USAGE", "*.*"), ("SELECT, SHOW VIEW", "`site`.*")], {}, OK),
        ([("SELECT (id, openid), REFERENCES", "`site`.`t`")], {}, WARN),
        ([("SELECT (id, openid)", "`site`.`t`")], {}, OK),
        ([("SELECT, UPDATE (receive_status)", "`site`.`t`")], {}, WARN),
        ([("SELECT, UPDATE (receive_status)", "`site`.`t`")], {"callback": CALLBACK}, OK),
        ([("ALL PRIVILEGES", "`site`.*")], {"callback": CALLBACK}, WARN),
    ],
)  # fmt: skip
def test_rights(grants, more, verdict):
    (found,) = judge_rights(grants, account(**more))
    assert found.verdict is verdict
    if verdict is WARN:
        assert "ON site.TABLE TO 'broadcastd'@'HOST'" in found.mend[0]
        assert "tp_receiver, tp_accesstoken" in found.mend[0]


def test_a_statement_that_reads_the_whole_table():
    sql = "UPDATE tp_receiver SET receive_status = 0 WHERE openid = :openid"
    assert judge_statement(sql, [Step("tp_receiver", "range", 1, "openid")]) is None
    found = judge_statement(sql, [Step("tp_receiver", "index", 9999, "PRIMARY")])
    assert found.mend == ("CREATE INDEX broadcastd_openid ON tp_receiver (openid)",)


# -- WeChat

WECHAT, HERE = URL("https://api.weixin.qq.com"), URL("http://127.0.0.1:80")


@pytest.mark.parametrize(
    ("seen", "url", "verdict"),
    [
        (Reach("no connection"), WECHAT, FAIL), (Reach("not trusted", untrusted=True), WECHAT, FAIL),
        (Reach(took_s=0.1), HERE, WARN), (Reach(took_s=0.1), URL("http://api.weixin.qq.com"), FAIL),
        (Reach(took_s=0.1, certificate_until=NOW + timedelta(days=8)), WECHAT, OK),
        (Reach(took_s=0.1, certificate_until=NOW + timedelta(days=6)), WECHAT, WARN),
        (Reach(took_s=2.1, certificate_until=NOW + timedelta(days=8)), WECHAT, WARN),
    ],
)  # fmt: skip
def test_reaching_the_api(seen, url, verdict):
    found = judge_reach(seen, url, NOW)
    assert found.verdict is verdict
    assert bool(found.mend) is (verdict is not OK)


API, SITE = "the API", "the site's database"


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        ({API: 0.0, SITE: 4.9}, [OK]), ({API: 5.1}, [WARN]), ({API: -61.0}, [FAIL]), ({SITE: 61.0}, [FAIL]),
        ({API: 61.0, SITE: 61.0}, [FAIL, FAIL]), ({}, [Verdict.SKIPPED]),
    ],
)  # fmt: skip
def test_the_clock(ahead, expected):
    assert verdicts(judge_clock(ahead)) == expected


def test_whose_clock_is_wrong():
    (found,) = judge_clock({API: 0.0, SITE: -100.0})
    assert "100 s behind that of the site's database" in found.seen
    assert "it is the database's that is wrong" in found.mend[0]
    (ours,) = judge_clock({SITE: -100.0})
    assert "timedatectl set-ntp true" in ours.mend[0]
    assert "the database's" not in ours.mend[0]


HAD = Token("t0ken", 7000)


@pytest.mark.parametrize(
    ("answer", "from_table", "words"),
    [
        (Answer(40164, "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: x"), True,
         "put 1.2.3.4 on"),
        (Answer(42001, "access_token expired"), True, "the site's own program that refreshes it"),
        (Answer(40001, "invalid credential"), False, "another program use the same app_id"),
        (Answer(48004, "api forbidden"), True, "WeChat's console"),
        (Answer(refused="HTTP 503"), True, "see api"),
    ],
)  # fmt: skip
def test_a_token_that_is_not_taken(answer, from_table, words):
    found = judge_token(HAD, answer, from_table=from_table)
    assert found.verdict is FAIL
    assert words in found.mend[0]


def test_a_token_that_is_taken():
    assert "for another 7,000 s" in judge_token(HAD, Answer(0), from_table=False).seen


def test_no_token():
    assert "token.query" in judge_no_token(Token(trouble="x"), from_table=True).mend[0]
    listed = judge_no_token(Token(trouble="40164 this server's IP … (put 1.2.3.4 on …)"), from_table=False)
    assert "IP白名单" in listed.mend[0]
    assert "app_secret" in judge_no_token(Token(trouble="40125"), from_table=False).mend[0]
    for trouble in (UNTRUSTED, "no connection in time"):
        away = judge_no_token(Token(trouble=f"WeChat cannot be reached: {trouble}"), from_table=False)
        assert "SSL_CERT_FILE" in away.mend[0]
