"""What a scenario is, and what it may use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bed.mariadb import PrivateMariaDb
from bed.settings_keys import default_of

from bench.endpoint import Endpoint
from bench.rounds import Found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. 0 and None: each scenario's own."""

    rounds: int = 0
    recipients: int = 0
    latency_ms: int | None = None
    full: bool = False
    """Also what takes half an hour: 300,000 and 1,000,000 recipients."""

    def rounds_or(self, own: int) -> int:
        """How often each side is measured."""
        return self.rounds or own


@dataclass(frozen=True, slots=True)
class Grounds:
    """What scenarios run on: the receiving side, the database, a folder."""

    folder: Path
    endpoint: Endpoint
    database: PrivateMariaDb
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Chart:
    """How a scenario is drawn: bars, a group a chart; or lines over the groups, which are numbers."""

    quantity: str
    kind: Literal["bars", "lines"] = "bars"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One comparison."""

    title: str
    words: str
    """What is measured and how, for whoever reads the page."""
    measure: Callable[[Grounds], Found]
    shown: tuple[str, ...]
    """The quantities that the table has."""
    base: str = ""
    """The side that the others of its group are compared with …"""
    compared: str = ""
    """… by this quantity."""
    chart: Chart | None = None
    usual: bool = True
    """Part of a run without names."""


def transports() -> tuple[str, ...]:
    """The ways to exchange HTTP that the daemon's settings know of; "" is the only one."""
    try:
        default_of("accounts.NAME.http.transport")
    except KeyError:
        return ("",)
    return ("aiohttp", "lean")


def daemon_name(transport: str) -> str:
    """How the daemon with this transport is called in tables."""
    return f"broadcastd, {transport}" if transport not in ("", "aiohttp") else "broadcastd"
