"""docs/internals.md and the READMEs name what there is."""

import configparser
import re
from pathlib import Path

import pytest
from bed.settings_keys import default_of

from broadcastd.cli.main import COMMANDS
from broadcastd.settings import Settings

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")
PAGE = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")


def _dependencies() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    lines = [setup["options"]["install_requires"], *(extras[name] for name in extras)]
    wanted = [line.strip() for part in lines for line in part.splitlines() if line.strip()]
    return {re.split(r"[<>=~!]", line)[0] for line in wanted}


def test_every_dependency_is_named_with_a_reason() -> None:
    section = PAGE.partition("\n## Dependencies\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"[\w-]+(?:\[\w+\])?", section))
    missing = _dependencies() - named
    assert not missing


def test_what_it_points_at_is_there() -> None:
    table = PAGE.partition("\n## Where do I find …\n")[2].partition("\n\nA new channel")[0]
    files = re.findall(r"`([\w/]+\.(?:py|toml))(?:: (\w+)(?:\.(\w+))?)?`", table)
    assert len(files) > 30
    for name, *symbols in files:
        text = (ROOT / "broadcastd" / name.removeprefix("broadcastd/")).read_text(encoding="utf-8")
        for symbol in filter(None, symbols):
            assert re.search(rf"(def|class) {symbol}\b", text), f"{symbol} in {name}"


@pytest.mark.parametrize("page", READMES)
def test_the_settings_of_the_readme_and_their_defaults(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(rf"^\| (`(?:{'|'.join(Settings.model_fields)})\.[^|]*)\|([^|]*)\|", text, re.MULTILINE)
    assert len(rows) > 10
    for keys, shown in rows:
        values = re.findall(r"`([^`]+)`", shown)
        for number, key in enumerate(re.findall(r"`([^`]+)`", keys)):
            if key.startswith(".") or key.endswith("_file"):
                continue
            default = default_of(key)
            if values:
                said = values[number].strip("[]").replace('"', "")
                known = ", ".join(default) if isinstance(default, tuple) else str(default)
                assert said == known, key


@pytest.mark.parametrize("page", READMES)
def test_every_command_is_in_the_readme(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"\bbroadcastd (\w+)", text)) >= set(COMMANDS)


def test_the_readmes_are_in_step() -> None:
    english, chinese = ((ROOT / page).read_text(encoding="utf-8") for page in READMES)
    for mark in ("## ", "| ", "- ", "```"):
        assert english.count(f"\n{mark}") == chinese.count(f"\n{mark}"), mark
    cells = [re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE) for text in (english, chinese)]
    first, second = ([re.findall(r"`([^`]+)`", cell) for cell in page] for page in cells)
    assert first == second
