"""Which version a ledger's schema has, and how it comes to be the present one.

A version is an alembic revision: `migrations/versions`. Alembic is imported only when there is something to
do, since its imports would stay in the daemon's memory for good.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from broadcastd.errors import LedgerVersionError
from broadcastd.ledgers import meta_values
from broadcastd.ledgers.schema import metadata

HEAD = "0004"
"""The version that this program works with: the last one in `migrations/versions`."""

SCRIPTS = "broadcastd.ledgers:migrations"
"""Where alembic finds them, also in an installed package."""

OF_0_1_0 = "0001"
"""Release 0.1.0 kept its version as `meta.version` = 1 only."""

TURN_AWAY_0_1_0 = "2"
"""As `meta.version`: 0.1.0 refuses the ledger then, and says so."""

# Alembic's own table: made here, since a new ledger needs no migration. (Alembic would name its key, too,
# which MySQL answers with a warning.)
_alembic_version = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), primary_key=True),
)


class Age(StrEnum):
    """How a ledger's version stands to the program's."""

    NEW = "new"  # no ledger yet, or one whose making was cut off
    OLD = "old"  # to be upgraded
    PRESENT = "present"
    NEWER = "newer"  # of a later program: refused


@dataclass(frozen=True, slots=True)
class Found:
    """What `state_of` found."""

    age: Age
    version: str = ""
    """Empty for a new one."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What was done to an old ledger; to one in the present version nothing, and both are the same."""

    before: str
    after: str
    backup: Path | None = None
    """The whole ledger as it was, where there is a file to copy."""


def state_of(connection: sa.Connection) -> Found:
    """Which version a ledger has. Cheap: what every start of the daemon asks."""
    version = _version(connection)
    if version is None:
        return Found(Age.NEW)
    if version == HEAD:
        return Found(Age.PRESENT, version)
    # Versions are ascending numbers of four digits; what is none was not made by any program known here.
    older = len(version) == len(HEAD) and version.isdigit() and version < HEAD
    return Found(Age.OLD if older else Age.NEWER, version)


def _version(connection: sa.Connection) -> str | None:
    inspector = sa.inspect(connection)
    if inspector.has_table(_alembic_version.name):
        row = connection.execute(sa.select(_alembic_version.c.version_num)).one_or_none()
        if row is not None:
            return str(row.version_num)
    if not inspector.has_table("meta") or _foreign_tables(inspector, ["meta"]):
        return None
    return OF_0_1_0 if meta_values.get(connection, "version") == "1" else None


def make(connection: sa.Connection) -> None:
    """Make the tables of a new ledger, in the present version. Safe to run again after a kill.

    Raises LedgerVersionError when the database has tables of somebody else's under these names.
    """
    foreign = _foreign_tables(sa.inspect(connection), list(metadata.tables))
    if foreign:
        raise LedgerVersionError(
            f"this database has tables that are not broadcastd's ({', '.join(foreign)}): the ledger needs one"
            " of its own"
        )
    metadata.create_all(connection)
    for table in metadata.tables.values():
        for index in table.indexes:
            # `create_all` makes none of a table that is there: on MySQL a kill may have come between.
            index.create(connection, checkfirst=True)
    _alembic_version.create(connection, checkfirst=True)
    # Last, and in one commit: on MySQL, where each table is one, this is what says that all are there.
    meta_values.put(connection, version=TURN_AWAY_0_1_0)
    connection.execute(sa.insert(_alembic_version).values(version_num=HEAD))


def _foreign_tables(inspector: sa.Inspector, names: list[str]) -> list[str]:
    """Which of these tables are there and lack a column."""
    foreign = []
    for name in filter(inspector.has_table, names):
        there = {column["name"] for column in inspector.get_columns(name)}
        if not there.issuperset(metadata.tables[name].c.keys()):
            foreign.append(name)
    return foreign


def upgrade(connection: sa.Connection) -> None:
    """Bring an old ledger to the present version, in the transaction that the caller has begun.

    On SQLite it is done when that commits, and undone otherwise. On MySQL each change of a table is
    committed at once; after a kill it is run again, and ends the same.
    """
    found = state_of(connection)
    if found.age is not Age.OLD:
        raise LedgerVersionError(f"version {found.version or 'none'} cannot be upgraded to {HEAD}")
    _alembic_version.create(connection, checkfirst=True)
    if connection.execute(sa.select(_alembic_version)).first() is None:
        connection.execute(sa.insert(_alembic_version).values(version_num=found.version))
    migrate(connection, HEAD)


def migrate(connection: sa.Connection, version: str) -> None:
    """Run the steps up to a version, in the transaction that the caller has begun."""
    from alembic import command  # noqa: PLC0415 - see the module's docstring
    from alembic.config import Config  # noqa: PLC0415

    _alembic_version.create(connection, checkfirst=True)
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def old_error(where: str, found: Found) -> LedgerVersionError:
    """Why an old ledger is not opened where no start upgrades it: other programs may be at work on it."""
    return LedgerVersionError(
        f"the ledger {where} has version {found.version}, and this broadcastd works with version {HEAD}:"
        " stop every broadcastd that uses it, make a backup, then run `broadcastd ledger upgrade`"
    )


def newer_error(where: str, found: Found, backups: str = "") -> LedgerVersionError:
    """Why a newer ledger is refused, and what to do. `backups`: the names of those made by its upgrade."""
    before = f" ({backups})" if backups else ""
    return LedgerVersionError(
        f"the ledger {where} has version {found.version}, and this broadcastd works with version {HEAD}:"
        " install the newer broadcastd again, or restore the ledger's backup from before its"
        f" upgrade{before}, which does not know what was sent since"
    )
