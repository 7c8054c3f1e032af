"""The charts, as SVG. The same figures make the same file."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import Figures
from bench.quantities import QUANTITIES
from bench.rounds import Found, middle, values_of
from bench.scenario import Chart, Scenario

OURS, OTHERS = "#1f6f8b", "#b8bec4"
BAR_IN, GROUP_IN, WIDTH_IN = 0.28, 0.55, 8.0
SETTINGS: Any = {
    "svg.hashsalt": "broadcastd",
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
}


def draw(path: Path, scenario: Scenario, figures: Figures) -> None:
    """One scenario's chart."""
    chart = scenario.chart
    assert chart is not None
    with mpl.rc_context(SETTINGS):
        drawn = _lines(chart, figures.found) if chart.kind == "lines" else _bars(chart, figures.found)
        drawn.suptitle(f"{scenario.title}: {QUANTITIES[chart.quantity][0]}", fontsize=10)
        drawn.savefig(path, format="svg", metadata={"Date": None})


def _bars(chart: Chart, found: Found) -> Figure:
    """A chart a group, one below the other; a line from the least to the most."""
    heights = [len(sides) * BAR_IN + GROUP_IN for sides in found.values()]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.4), layout="constrained")
    charts = figure.subplots(
        len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights}, sharex=True
    )
    for axes, (group, sides) in zip(charts[:, 0], found.items(), strict=True):
        for side, runs in sides.items():
            values = values_of(runs, chart.quantity)
            if not values:
                continue
            mid = middle(runs, chart.quantity)
            color = OURS if side.startswith("broadcastd") else OTHERS
            spread = [[mid - min(values)], [max(values) - mid]]
            axes.barh(side, mid, color=color, xerr=spread, error_kw={"elinewidth": 1, "capsize": 2})
            axes.annotate(
                QUANTITIES[chart.quantity][1].format(mid), (max(values), side), xytext=(5, 0),
                va="center", textcoords="offset points",
            )  # fmt: skip
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.set_title(group, loc="left", fontsize=9)
        _plain(axes)
    return figure


def _lines(chart: Chart, found: Found) -> Figure:
    """Over the groups that are numbers; a group that is none is a line across."""
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    axes = figure.subplots()
    sizes = {group: int(group.replace(",", "")) for group in found if group[0].isdigit()}
    for side in dict.fromkeys(side for group in sizes for side in found[group]):
        there = [group for group in sizes if side in found[group]]
        runs = [middle(found[group][side], chart.quantity) for group in there]
        axes.plot([sizes[group] for group in there], runs, marker="o", label=side)
    for group in found.keys() - sizes.keys():
        for side, one in found[group].items():
            axes.axhline(middle(one, chart.quantity), color="gray", linestyle="--", label=side)
    axes.set_xscale("log")
    axes.set_xticks(list(sizes.values()), list(sizes))
    axes.minorticks_off()
    axes.set_xlabel("recipients")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    axes.legend(frameon=False)
    _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
