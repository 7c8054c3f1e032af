"""`broadcastd quota` against a scripted daemon."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from bed.scripted import Run, refusal, scripted_daemon

CLEARED = {"ok": True, "op": "clear_quota", "account": "shop"}
CUSTOM = {
    "path": "/cgi-bin/message/custom/send", "daily_limit": 500_000, "used": 500_000, "left": 0, "rate": None,
    "asked_at": "2026-11-24T10:00:00.000+00:00", "error": "", "held": "45009 used up",
}  # fmt: skip
TEMPLATE = {
    "path": "/cgi-bin/message/template/send", "daily_limit": None, "used": None, "left": None,
    "rate": {"calls": 4_200_000, "per_s": 60}, "asked_at": None, "error": "48001 no\x1b", "held": "",
}  # fmt: skip


def table(**channels: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "op": "quota", "accounts": {"shop": {"channels": channels}}}


def test_the_table(run: Run) -> None:
    with scripted_daemon([table(custom=CUSTOM, template=TEMPLATE)]) as daemon:
        ran = run("quota", "--account", "shop", "--port", daemon.port)
    assert daemon.frames == [{"op": "quota", "account": "shop"}]
    head, custom, template, *notes = [line.split() for line in ran.out.splitlines()]
    assert head == ["account", "channel", "path", "a", "day", "used", "left", "rate"]
    assert custom == ["shop", "custom", CUSTOM["path"], "500,000", "500,000", "0"]
    assert template == ["shop", "template", TEMPLATE["path"], "?", "?", "?", "4,200,000", "in", "60", "s"]
    assert [" ".join(note) for note in notes] == [
        "shop custom takes no calls: 45009 used up",
        "shop template: WeChat gives no figures: 48001 no\\x1b",
    ]


def test_the_table_as_json(run: Run) -> None:
    with scripted_daemon([table(custom=CUSTOM)]) as daemon:
        ran = run("quota", "--json", "--port", daemon.port)
    assert daemon.frames == [{"op": "quota"}]
    assert json.loads(ran.out) == table(custom=CUSTOM)


@pytest.mark.parametrize("words", [("--account", "shop", "clear"), ("clear", "--account", "shop")])
def test_clear_asks_on_a_terminal(run: Run, typed: Callable[[str], None], words: tuple[str, ...]) -> None:
    with scripted_daemon([CLEARED]) as daemon:
        typed("y\n")
        ran = run("quota", *words, "--port", daemon.port)
    assert "shop: this takes one of 10 resets a month. Reset the quotas of all its calls? [y/N]" in ran.err
    assert daemon.frames == [{"op": "clear_quota", "account": "shop"}]
    assert ran.out == "shop: WeChat has reset the quotas of all calls; what waited for them goes on\n"


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_clear_without_a_yes_asks_nobody(run: Run, typed: Callable[[str], None], answer: str) -> None:
    with scripted_daemon() as daemon:
        typed(answer)
        ran = run("quota", "clear", "--port", daemon.port)
    assert daemon.frames == []
    assert (ran.code, ran.out) == (1, "")


@pytest.mark.parametrize("words", [("clear", "--yes"), ("clear",)])
def test_a_script_is_not_asked(run: Run, words: tuple[str, ...]) -> None:
    with scripted_daemon([CLEARED]) as daemon:
        assert run("quota", *words, "--json", "--port", daemon.port).out == json.dumps(CLEARED) + "\n"
    assert daemon.frames == [{"op": "clear_quota", "account": "default"}]


def test_a_refusal(run: Run) -> None:
    with scripted_daemon([refusal("wechat_refused", "48006 used up")]) as daemon:
        ran = run("quota", "clear", "--port", daemon.port)
    assert (ran.code, ran.err) == (5, "broadcastd: wechat_refused: 48006 used up\n")
