"""Compares two settings by their dotted keys, and lays over the one what may change of the other. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from broadcastd.settings import Settings

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of reading the settings again; dotted keys, never values."""

    changed: tuple[str, ...] = ()
    """In force from now on."""
    needs_restart: tuple[str, ...] = ()
    """Set in the file, and not in force before the next start."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value is another one. `pattern`: the live one that it matches; None: it needs a restart."""

    path: Path
    pattern: str | None

    @property
    def key(self) -> str:
        """As the pages spell it."""
        return ".".join(self.path)


def changes(old: Settings, new: Settings, live: Iterable[str]) -> list[Change]:
    """The keys that differ. `live`: patterns of keys that may change, `*` for any one name."""
    patterns = {tuple(pattern.split(".")): pattern for pattern in live}
    return list(_changes(old, new, (), patterns))


def _changes(old: Any, new: Any, path: Path, patterns: Mapping[Path, str]) -> Iterator[Change]:
    if old == new:
        return
    pattern = next((name for parts, name in patterns.items() if _matches(parts, path)), None)
    inner_old, inner_new = _sections(old), _sections(new)
    if pattern is not None or inner_old is None or inner_new is None:
        yield Change(path, pattern)
        return
    for name in dict.fromkeys([*inner_old, *inner_new]):
        yield from _changes(inner_old.get(name), inner_new.get(name), (*path, name), patterns)


def _matches(pattern: Path, path: Path) -> bool:
    return len(pattern) == len(path) and all(a in ("*", b) for a, b in zip(pattern, path, strict=True))


def _sections(value: Any) -> Mapping[str, Any] | None:
    """What a section or a table of sections is made of; None: a value of its own."""
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict) and any(isinstance(one, BaseModel) for one in value.values()):
        return value
    return None


def overlaid(old: Settings, new: Settings, live: Iterable[Change]) -> Settings:
    """`old`, with these keys of `new`. Raises ValueError when they do not go together."""
    values, others = old.model_dump(), new.model_dump()
    for change in live:
        target, source = values, others
        for name in change.path[:-1]:
            target, source = target[name], source[name]
        target[change.path[-1]] = source[change.path[-1]]
    return Settings.model_validate(values)
