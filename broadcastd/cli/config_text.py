"""The settings file as `config init` writes it: the package's commented one, some of its values others."""

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

PORTS_BESIDE = {"http": 1, "callback": 2}
"""Sections with a port of their own, and how far from the server's: 9091 and 9092 beside 9090."""

Value = str | int | list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon lives, if not where the package's file says."""

    state_dir: Path | None = None
    identity_dir: Path | None = None
    port: int | None = None
    restart: str | None = None
    user: str | None = None
    pid_file: Path | None = None
    log_file: Path | None = None


def settings_text(place: Place) -> str:
    """The whole file, its comments kept."""
    text = resources.files("broadcastd.cli").joinpath("broadcastd.toml").read_text(encoding="utf-8")
    for (section, key), value in _values(place).items():
        text = with_value(text, section, key, value)
    return text


def _values(place: Place) -> dict[tuple[str, str], Value]:
    values: dict[tuple[str, str], Value] = {}
    if place.state_dir is not None:
        values["ledger", "url"] = f"sqlite:///{place.state_dir}/broadcastd.db"
    if place.identity_dir is not None:
        values["ledger", "identity_dir"] = str(place.identity_dir)
    if place.port is not None:
        values["server", "port"] = place.port
        for section, distance in PORTS_BESIDE.items():
            values[section, "port"] = place.port + distance
    if place.restart is not None:
        values["monitor", "restart"] = place.restart.split()
    for key in ("user", "pid_file", "log_file"):
        if (value := getattr(place, key)) is not None:
            values["background", key] = str(value)
    return values


def with_value(text: str, section: str, key: str, value: Value) -> str:
    """The text with another value for a key that it has, commented out or not; the comment keeps its column.

    Without such a section or key, the text as it is.
    """
    within = re.search(rf"^\[{re.escape(section)}\].*?(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    if within is None:
        return text
    line = re.search(
        rf'^(?:# )?({re.escape(key)} = (?:"[^"\n]*"|\[[^\]\n]*\]|[^\s#]+)) *(#.*)?$', within[0], re.MULTILINE
    )
    if line is None:
        return text
    comment = line[2] or ""
    set_to = f"{key} = {json.dumps(value)}"
    if comment:
        column = len(line[0]) - len(comment)
        set_to = f"{set_to:<{column}}" if len(set_to) < column else f"{set_to}   "
    start = within.start() + line.start()
    return f"{text[:start]}{set_to}{comment}{text[within.start() + line.end() :]}"
