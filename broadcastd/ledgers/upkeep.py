"""What the commands do to a ledger that no daemon works on, whatever it is kept in: its URL tells."""

from datetime import datetime
from pathlib import Path

from broadcastd.ledgers import sqlite
from broadcastd.ledgers.migration import HEAD, Age, Upgrade

SQLITE = "sqlite:///"


def shown(url: str) -> str:
    """The ledger's place as people know it."""
    return url.removeprefix(SQLITE)


def make(url: str) -> bool:
    """Make the tables of a new ledger; whether there was one already. Raises LedgerUnavailableError."""
    return sqlite.make(_path(url)).age is not Age.NEW


def upgrade(url: str, now: datetime) -> Upgrade:
    """Bring a ledger to the present version.

    Raises LedgerInUseError when a daemon works on it, LedgerVersionError and LedgerUnavailableError.
    """
    return sqlite.upgrade_file(_path(url), now) or Upgrade(HEAD, HEAD)


def _path(url: str) -> Path:
    return Path(url.removeprefix(SQLITE))
