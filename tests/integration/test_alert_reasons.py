"""Reasons in Chinese: what broadcastd says itself is; what is from outside is kept as the original."""

import itertools
import re
from datetime import timedelta
from pathlib import Path

import pytest
from bed.fakes import T0
from click.testing import CliRunner

import broadcastd
from broadcastd.alerts.policy import Alert
from broadcastd.alerts.reasons import in_language
from broadcastd.alerts.reasons_zh import SENTENCES
from broadcastd.alerts.texts import text_of
from broadcastd.audiences import trouble
from broadcastd.cli.alert import alert
from broadcastd.delivery.forecast import Need
from broadcastd.errcodes import MEANINGS, in_words, meaning_of
from broadcastd.monitor.verdict import Certificate, Facts, Limits, Port, Standing, judge
from broadcastd.notices import NoticeKind
from broadcastd.quota_ports import Quota

ENGLISH = re.compile(r"[A-Za-z]{3,} [A-Za-z]{2,}")
LIMITS = Limits(256, timedelta(days=14), restart="systemctl restart broadcastd")
JOINTS = re.compile(
    r"\{\w+\}|the site's database |[;,] (?:it is )?|(?= lists in a row)|(?= after up to)|(?=: openids)"
)
"""Where the code puts a sentence together."""
NONE_OF_OURS = ("[Errno ", "url: ", "sql: ", "no such")


def in_chinese(reason: str) -> str:
    said = in_language(reason, "zh")
    assert not ENGLISH.search(said), said
    assert "原文" not in said
    return said


def test_every_sentence_is_said_somewhere_in_the_code() -> None:
    code = ""
    for path in sorted(Path(broadcastd.__file__).parent.rglob("*.py")):
        if path.name not in ("reasons_zh.py", "alert.py"):
            code += path.read_text(encoding="utf-8").replace('\\"', '"')
    code = re.sub(r'"\s*\+?\s*f?"', "", code)  # a text that is written in pieces
    for sentence in SENTENCES:
        if sentence.startswith(NONE_OF_OURS):
            continue
        for piece in JOINTS.split(sentence):
            assert piece.strip(" :;,()") in code, (sentence, piece)


def facts_of_every_kind() -> list[Facts]:
    words = (
        "no daemon answers on 127.0.0.1:9090: Connection refused",
        "somebody listens, and does not answer within 10 s",
        "what listens on 127.0.0.1:9090 is not broadcastd",
    )
    ports = (Port.REFUSED, Port.SILENT, Port.FOREIGN)
    down = [
        Facts(port, said, standing) for port, said in zip(ports, words, strict=True) for standing in Standing
    ]
    canary = {
        "intake": "the ledger's disk has 3 MB left, less than ledger.reserve_mb = 64",
        "accounts": {
            "default": {
                "plan": "the site's database cannot be reached: Connection refused",
                "token": "WeChat gives no access token: "
                f"{in_words(40164)} (put 203.0.113.7 on the IP whitelist in WeChat's console)",
            }
        },
    }
    stuck = {"job": "j1", "account": "default", "since": "2026-11-28T10:00:00Z", "told": False}
    info = {
        "progress": "loop: it has not come round for 20 s",
        "stuck": [{**stuck, "why": "it waits for its turn in channel custom"}],
        "accounts": {"default": {"wechat": "ok"}},
        "jobs": {"held": 0},
        "ledger": "ok",
    }
    ends = (Certificate("server.tls_cert", T0), Certificate("http.tls_cert", T0 + timedelta(days=3)),
            Certificate("a", None, "/x.pem is no certificate"),
            Certificate("b", None, "/x.pem cannot be read: No such file or directory"))  # fmt: skip
    return [*down, Facts(Port.ANSWERS, canary=canary, info=info, free_mb=0, certificates=ends)]


def test_an_alert_of_the_monitor_is_wholly_chinese() -> None:
    found = list(itertools.chain.from_iterable(judge(facts, LIMITS, T0) for facts in facts_of_every_kind()))
    notices = [one.notice for one in found if one.notice is not None]
    assert len(notices) > 15
    for notice in notices:
        text = text_of(Alert(notice.kind, T0, notice.about, notice.facts, since=T0), "zh", "s")
        said = text.title.partition("]")[2] + text.body.partition("怎么办")[0]
        assert not re.search(ENGLISH.pattern.replace("{3,}", "{4,}"), said), said
        assert "原文" not in said
        if notice.kind is NoticeKind.DAEMON_DOWN:
            assert text.body.endswith("重新启动：systemctl restart broadcastd\n")
            assert text.body.count("systemctl") == 1, "it is no fact to be shown"


@pytest.mark.parametrize("code", sorted(MEANINGS.keys() - {0}))
def test_of_an_errcode_the_chinese_meaning_is_taken(code: int) -> None:
    assert (
        in_language(f"{in_words(code)} (channel custom)", "zh")
        == f"{code} {meaning_of(code).zh}（通道 custom）"
    )


@pytest.mark.parametrize("words", sorted(set(trouble.WORDS.values())))
def test_every_word_for_a_database_is_known(words: str) -> None:
    in_chinese(f"it cannot be planned: {trouble.DATABASE} {words} (1045)")


@pytest.mark.parametrize(("needed", "before", "known", "bound"), [
    (5000, 0, True, False), (5000, 300, True, True), (5000, 300, True, False), (5000, 0, True, True),
    (None, 0, True, False), (5000, 0, False, False),
])  # fmt: skip
def test_a_forecast(needed: int | None, before: int, known: bool, bound: bool) -> None:
    quota = Quota(1000, 900, 100) if known else None
    words = Need("custom", needed, bound, before, quota, 0.0).words
    in_chinese(f"{words}; {words}")


@pytest.mark.parametrize(
    ("reason", "chinese"),
    [
        ("the ledger cannot be written: database or disk is full", "账本无法写入：磁盘空间已满"),
        (f"{in_words(45009)} (channel custom); nothing is left today;"
         " looked at again at 2026-01-01 00:05:00 UTC",
         f"45009 {meaning_of(45009).zh}（通道 custom）；今天已用完；2026-01-01 00:05:00 UTC 再查看"),
        ("it waits for its audience cannot be read: the site's database does not answer within 30 s",
         "它在等待：无法读取它的受众：网站数据库 30 秒内没有应答"),
        ("no daemon answers on h:1: Connection refused; it was stopped, so nobody starts it but you",
         "h:1 上没有 broadcastd 应答：连接被拒绝；它已被人停止，不会自动启动，请您自行启动"),
        ("the site's database says: Table 'a.b' doesn't exist (1146)",
         "网站数据库报告：原文“Table 'a.b' doesn't exist (1146)”"),
        ("something new happened {x}", "原文“something new happened {x}”"),
    ],
)  # fmt: skip
def test_what_it_says(reason: str, chinese: str) -> None:
    assert in_language(reason, "zh") == chinese
    assert in_language(reason, "en") == reason


def test_the_examples_are_chinese() -> None:
    for kind in (kind for kind in NoticeKind if kind is not NoticeKind.FRAME_REFUSED):
        done = CliRunner().invoke(alert, ["test", "--print", "--language", "zh", "--kind", kind.value])
        assert done.exit_code == 0, done.output
        assert "原文" not in done.output


@pytest.mark.parametrize("evil", ["; " * 900, "account a: " * 180, "a" * 100_000, "it waits for " * 150])
def test_a_reason_from_outside_costs_little_and_is_all_there(evil: str) -> None:
    said = in_language(evil, "zh")
    assert len(evil) * 0.9 <= len(said) <= len(evil) + 10
