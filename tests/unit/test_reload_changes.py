"""What differs between two settings, and what of it is laid over."""

import re
from pathlib import Path

import pytest
from bed.settings_keys import default_of

from broadcastd.live_settings import LIVE
from broadcastd.reload import changes, overlaid
from broadcastd.settings import Settings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def _settings(**sections: object) -> Settings:
    account = {"audience": {"url": "sqlite:///x"}, "channels": ["custom"]}
    return Settings.model_validate({"accounts": {"default": account}, **sections})


def _keys(old: Settings, new: Settings, *live: str) -> list[tuple[str, bool]]:
    return [(change.key, change.pattern is not None) for change in changes(old, new, live)]


def test_equal_settings_have_no_changes() -> None:
    assert _keys(_settings(), _settings(), "server.port") == []


def test_keys_are_compared_down_to_the_value_or_the_pattern() -> None:
    old, new = _settings(), _settings(server={"port": 1, "quiet_ms": 7}, pool={"tasks": 3})
    assert _keys(old, new, "server.quiet_ms") == [
        ("server.port", False), ("server.quiet_ms", True), ("pool.tasks", False),
    ]  # fmt: skip
    assert _keys(old, new, "server") == [("server", True), ("pool.tasks", False)]


def test_accounts_match_a_star_and_come_and_go_whole() -> None:
    one = {"audience": {"url": "sqlite:///x"}, "channels": ["custom"]}
    old = _settings(accounts={"a": one, "b": one})
    changed = {**one, "custom": {"text": "new"}, "templates": {"t": {"template_id": "T"}}}
    new = _settings(accounts={"a": changed, "c": one})
    found = _keys(old, new, "accounts.*.custom.text", "accounts.*.templates")
    assert found == [
        ("accounts.a.custom.text", True), ("accounts.a.templates", True),
        ("accounts.b", False), ("accounts.c", False),
    ]  # fmt: skip


def test_only_live_keys_are_laid_over_and_the_whole_is_checked() -> None:
    old, new = _settings(), _settings(server={"port": 1, "quiet_ms": 7, "token": "t"})
    live = [change for change in changes(old, new, ["server.quiet_ms", "server.token"]) if change.pattern]
    both = overlaid(old, new, live)
    assert (both.server.port, both.server.quiet_ms) == (9090, 7)
    assert both.server.token is not None
    assert both.server.token.get_secret_value() == "t"
    assert overlaid(old, new, []) == old

    open_to_all = _settings(server={"host": "0.0.0.0", "token": "t"})
    live = [change for change in changes(open_to_all, old, ["server.token"]) if change.pattern]
    with pytest.raises(ValueError, match="beyond loopback"):
        overlaid(open_to_all, old, live)


def test_every_live_pattern_is_a_key_that_there_is() -> None:
    for pattern in LIVE:
        default_of(pattern.replace("*", "default"))


def test_the_page_names_exactly_these() -> None:
    section = OPERATIONS.read_text(encoding="utf-8").partition("\n## Reload\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = {key for row in rows for key in re.findall(r"`([a-z_.*A-Z]+)`", row.split("|")[1])}
    assert named == {pattern.replace("accounts.*", "accounts.NAME") for pattern in LIVE}
