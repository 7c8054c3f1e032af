"""The settings file with other values: its comments stay, and the rest of it."""

import tomllib
from pathlib import Path

from broadcastd.cli.config_text import Place, settings_text, with_value

PLAIN = settings_text(Place())


def test_only_what_was_asked_for_differs() -> None:
    text = settings_text(Place(Path("/var/lib/b"), Path("/var/lib/b-id"), 9190))
    values, plain = tomllib.loads(text), tomllib.loads(PLAIN)
    assert values["ledger"].pop("url") == "sqlite:////var/lib/b/broadcastd.db"
    assert values["ledger"].pop("identity_dir") == "/var/lib/b-id"
    assert (values["server"].pop("port"), values["callback"].pop("port")) == (9190, 9192)
    for section, key in (
        ("ledger", "url"),
        ("ledger", "identity_dir"),
        ("server", "port"),
        ("callback", "port"),
    ):
        del plain[section][key]
    values.get("http", {}).pop("port", None)
    plain.get("http", {}).pop("port", None)
    assert values == plain


def test_without_systemd_the_user_and_its_files_are_written() -> None:
    there = Place(
        user="broadcastd",
        pid_file=Path("/run/b/b.pid"),
        log_file=Path("/var/log/b/b.log"),
        restart="b restart",
    )
    values = tomllib.loads(settings_text(there))
    assert values["background"] == {
        **tomllib.loads(PLAIN)["background"],
        "user": "broadcastd",
        "pid_file": "/run/b/b.pid",
        "log_file": "/var/log/b/b.log",
    }


def test_comments_stay() -> None:
    text = settings_text(Place(Path("/var/lib/b"), Path("/var/lib/b-id")))
    assert text.count("#") == PLAIN.count("#")
    assert len(text.splitlines()) == len(PLAIN.splitlines())


def test_the_section_counts_and_a_comment_keeps_its_column() -> None:
    text = '[a]\nkey = 1       # one\n[b]\nkey = 2\n# other = "x"  # two\n'
    assert with_value(text, "a", "key", 22) == text.replace("key = 1       # one", "key = 22      # one")
    assert with_value(text, "b", "key", 3) == text.replace("key = 2", "key = 3")
    assert with_value(text, "b", "other", "y") == text.replace('# other = "x"  # two', 'other = "y"    # two')


def test_a_command_is_a_list_of_words() -> None:
    text = '[monitor]\nrestart = ["systemctl", "restart", "broadcastd"]   # "": never\n'
    there = with_value(text, "monitor", "restart", ["systemctl", "restart", "broadcastd@shop.service"])
    assert tomllib.loads(there)["monitor"]["restart"] == ["systemctl", "restart", "broadcastd@shop.service"]
    assert there.endswith('# "": never\n')


def test_what_the_file_does_not_have_is_left_out() -> None:
    assert with_value("[a]\nkey = 1\n", "b", "key", 2) == "[a]\nkey = 1\n"
    assert with_value("[a]\nkey = 1\n", "a", "keys", 2) == "[a]\nkey = 1\n"
