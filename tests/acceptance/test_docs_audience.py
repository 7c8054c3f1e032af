"""docs/audience.md names what there is, and its statements make what --create makes."""

import re
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from bed.mariadb import PrivateMariaDb
from bed.schemas import MariaDatabase, tables

from broadcastd.audiences.followers_schema import followers_table, make_tables
from broadcastd.cli.audience import query_of, sync
from broadcastd.delivery import audience_sync
from broadcastd.settings import AudienceSettings
from broadcastd.sync_ports import OWN_TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "audience.md").read_text(encoding="utf-8")


def test_its_options_are_the_commands() -> None:
    named = set(re.findall(r"^\| `(--[\w-]+)` \|", PAGE, re.MULTILINE))
    there = {option for parameter in sync.params for option in parameter.opts}
    assert named == there - {"-c", "--config"}


def test_its_figures_are_the_codes() -> None:
    assert query_of(OWN_TABLE) in PAGE
    assert AudienceSettings.model_fields["sync_calls_a_day"].default == 500
    assert "500 times a day" in PAGE
    assert timedelta(seconds=150) == audience_sync.CLAIM
    assert "after 150 s" in PAGE
    assert timedelta(days=3) == audience_sync.PASS_LIFE
    assert "over three days" in PAGE
    assert audience_sync.LEAST_SHARE_OF_TOTAL == 0.99
    assert "99 %" in PAGE
    assert audience_sync.MOST_GONE_SHARE == 0.5
    assert "more than half" in PAGE


def test_its_statements_make_the_same_tables(mariadb: PrivateMariaDb) -> None:
    database = MariaDatabase(mariadb)
    database.clear()
    statements = re.findall(r"^    (CREATE TABLE.*?);$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(statements) == 2

    def make(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    def create(connection: sa.Connection) -> None:
        make_tables(connection, followers_table(OWN_TABLE))

    database.run(make)
    made = database.run(tables)
    database.clear()
    database.run(create)
    assert made == database.run(tables)
