"""The figures in the repository, docs/performance/figures.json, by scenario: as measured, and where."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.rounds import Found


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one scenario."""

    on: str
    """The day, ISO 8601."""
    machine: dict[str, str]
    found: Found


Book = dict[str, Figures]
"""By the scenario's name."""


def read(path: Path) -> Book:
    """Those in the file; none when there is no file."""
    if not path.exists():
        return {}
    return {name: Figures(**one) for name, one in json.loads(path.read_text(encoding="utf-8")).items()}


def write(path: Path, book: Book) -> None:
    """One run of one side a line: so a change is readable."""
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({name: asdict(one) for name, one in book.items()}, indent=1, ensure_ascii=False)
    runs = re.compile(r"\{\s+(\"[a-z0-9_]+\": -?[\d.e+-]+,?\s*)+\}")
    path.write_text(runs.sub(lambda run: " ".join(run[0].split()), text) + "\n", encoding="utf-8")


def rounded(found: Found) -> Found:
    """Four digits: the rest is noise."""
    return {
        group: {
            side: [{name: float(f"{value:.4g}") for name, value in run.items()} for run in runs]
            for side, runs in sides.items()
        }
        for group, sides in found.items()
    }
