"""docs/monitoring.md tells of the monitor what the code does."""

import re
from pathlib import Path

from broadcastd.monitor.restarts import GAPS
from broadcastd.monitor.verdict import CHECKS
from broadcastd.monitor_settings import MOST_SECOND_LOOK_S, MonitorSettings

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## monitor\n")[2].partition("\n## ")[0]


def _rows(heading: str) -> list[list[str]]:
    table = SECTION.partition(f"\n### {heading}\n")[2].partition("\n|")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]]


def test_the_checks_are_exactly_these() -> None:
    rows = _rows("What it looks at")
    assert [row[0].strip("`") for row in rows] == list(CHECKS)
    for name, _, does in rows:
        check = CHECKS[name.strip("`")]
        alert = re.search(r"alert `(\w+)`", does)
        assert (alert[1] if alert else None) == (check.kind and check.kind.value), name
        assert ("restart" in does) is check.restarts, name


def test_the_settings_and_their_defaults_are_exactly_these() -> None:
    rows = {row[0].strip("`"): row[1].strip("`").strip('"') for row in _rows("Settings")}
    fields = MonitorSettings.model_fields
    assert list(rows) == list(fields)
    for name, shown in rows.items():
        default = fields[name].default
        said = " ".join(default) if isinstance(default, tuple) else str(default).lower()
        assert shown == said, name
    assert f"at most {MOST_SECOND_LOOK_S:g}" in SECTION


def test_the_gaps_between_restarts_are_these() -> None:
    minutes = [round(gap.total_seconds() / 60) for gap in GAPS]
    assert "within {} minutes of the last restart, then {}, then {};".format(*minutes) in SECTION
