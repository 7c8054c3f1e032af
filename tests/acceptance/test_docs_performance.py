"""docs/performance.md shows the figures that are kept beside it."""

import re

import pytest
from bench.__main__ import FIGURES, PAGE, arguments
from bench.figures import read
from bench.page import figures_text, with_figures
from bench.scenarios import SCENARIOS


def test_the_tables_are_those_of_the_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    written = with_figures(page, figures_text(read(FIGURES), SCENARIOS))
    assert page == written, "scripts/bench --redraw writes them anew"


def test_the_charts_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for chart in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert (PAGE.parent / chart).read_text(encoding="utf-8").startswith("<?xml")


def test_a_scenario_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["sendign"])
    assert "accepted: sending, latency" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments(["--write", "--recipients", "10"])
    assert arguments(["sending", "--rounds", "2"]).scenario == ["sending"]
