"""docs/performance.md: what stands between its marks is written from the figures."""

from collections.abc import Mapping

from bench.aims import aims_table
from bench.figures import Book, Figures
from bench.quantities import QUANTITIES, spread
from bench.rounds import ratio, values_of
from bench.scenario import Scenario

BEGIN = "<!-- From here to the other mark: written by scripts/bench. -->"
END = "<!-- The end of what scripts/bench writes. -->"


def with_figures(page: str, text: str) -> str:
    """The page with this between its marks. Raises ValueError unless they are there, once each, in order."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or END in before + after or BEGIN in rest:
        raise ValueError(f"the page must have {BEGIN!r} and after it {END!r}, once each")
    between = f"\n\n{text.strip()}\n\n" if text else "\n\n"
    return f"{before}{BEGIN}{between}{END}{after}"


def figures_text(book: Book, scenarios: Mapping[str, Scenario]) -> str:
    """All that is between the marks: the aims, then the scenarios that were measured."""
    if not book:
        return ""
    machines = {_machine(one) for one in book.values()}
    parts = [f"### Aims\n\n{aims_table(book)}"]
    if len(machines) == 1:
        parts.insert(0, f"All on one machine: {machines.pop()}.")
    for name, scenario in scenarios.items():
        if name in book:
            parts.append(_section(name, scenario, book[name], tell_machine=bool(machines)))
    return "\n\n".join(parts)


def _machine(figures: Figures) -> str:
    return ", ".join(f"{what} {which}" for what, which in figures.machine.items())


def _section(name: str, scenario: Scenario, figures: Figures, *, tell_machine: bool) -> str:
    parts = [f"### {scenario.title}", f"`scripts/bench {name}`. {scenario.words}", table(scenario, figures)]
    if scenario.chart:
        parts.append(f"![{scenario.title}](performance/{name}.svg)")
    machine = f"; {_machine(figures)}" if tell_machine else ""
    parts.append(f"<small>{figures.on}, {_rounds(figures)}{machine}.</small>")
    return "\n\n".join(parts)


def _rounds(figures: Figures) -> str:
    most = max(len(runs) for sides in figures.found.values() for runs in sides.values())
    return "one round" if most == 1 else f"{most} rounds: medians (least to most)"


def table(scenario: Scenario, figures: Figures) -> str:
    """As Markdown: a row a side, with its ratio to the base of its group."""
    shown = [one for one in scenario.shown if _is_measured(figures, one)]
    titles = ["", "", *(QUANTITIES[one][0] for one in shown)]
    if scenario.base:
        titles.append(f"{QUANTITIES[scenario.compared][0]} ÷ {scenario.base}")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for group, sides in figures.found.items():
        beside = sides.get(scenario.base, [])
        for side, runs in sides.items():
            cells = [group, side, *(spread(runs, one) for one in shown)]
            if scenario.base:
                has_both = values_of(runs, scenario.compared) and values_of(beside, scenario.compared)
                cells.append(f"{ratio(runs, beside, scenario.compared):.2f}" if has_both else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _is_measured(figures: Figures, quantity: str) -> bool:
    return any(values_of(runs, quantity) for sides in figures.found.values() for runs in sides.values())
