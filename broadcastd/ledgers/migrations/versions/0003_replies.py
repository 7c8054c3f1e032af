"""Holds that end by themselves, warnings, followers, pushes, deliveries and mass messages."""

import sqlalchemy as sa

from broadcastd.ledgers.migrations.steps import add_column, exact_text, make_index, make_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """New tables and columns only: what is there stays as it is."""
    add_column("jobs", sa.Column("held_until", sa.BigInteger))
    add_column("jobs", sa.Column("warnings", sa.JSON))
    add_column("jobs", sa.Column("calls_saved", sa.Integer, nullable=False, server_default="0"))
    _make_followers()
    _make_pushes()
    _make_receipts()
    _make_mass()


def _make_followers() -> None:
    make_table(
        "followers",
        sa.Column("account", exact_text(64), primary_key=True),
        sa.Column("openid", exact_text(128), primary_key=True),
        sa.Column("window_until", sa.BigInteger),
        sa.Column("window_left", sa.Integer),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("gone_code", sa.Integer, nullable=False, server_default="0"),
        sa.Column("gone_at", sa.BigInteger),
        sa.Column("refused_at", sa.BigInteger),
        sa.Column("opted_out_at", sa.BigInteger),
        without_rowid=True,
    )


def _make_pushes() -> None:
    make_table(
        "pushes",
        sa.Column("no", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("account", exact_text(64), nullable=False),
        sa.Column("dedupe_key", exact_text(255), nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("applied_at", sa.BigInteger),
    )
    make_index("pushes_by_key", "pushes", ["account", "dedupe_key"], unique=True)
    make_index("ix_pushes_received_at", "pushes", ["received_at"])
    make_index("ix_pushes_applied_at", "pushes", ["applied_at"])


def _make_receipts() -> None:
    make_table(
        "receipts",
        sa.Column("account", exact_text(64), primary_key=True),
        sa.Column("channel", sa.String(16), primary_key=True),
        sa.Column("msgid", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("openid", exact_text(128)),
        sa.Column("job_no", sa.Integer),
        sa.Column("recipient_id", sa.BigInteger),
        sa.Column("status", sa.String(16), nullable=False, server_default=""),
        sa.Column("at", sa.BigInteger, nullable=False),
        without_rowid=True,
    )
    make_index("ix_receipts_at", "receipts", ["at"])
    make_index("receipts_by_recipient", "receipts", ["job_no", "recipient_id"])
    make_index("receipts_by_openid", "receipts", ["account", "openid"])
    make_table(
        "delivery_tallies",
        sa.Column("job_no", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("channel", sa.String(16), primary_key=True),
        sa.Column("status", sa.String(16), primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
        without_rowid=True,
    )


def _make_mass() -> None:
    make_table(
        "mass_chunks",
        sa.Column("job_no", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("no", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("clientmsgid", exact_text(64), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("first_asked_at", sa.BigInteger),
        sa.Column("counted", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("msg_id", sa.BigInteger),
        sa.Column("errcode", sa.Integer, nullable=False, server_default="0"),
        sa.Column("result", sa.JSON),
    )
    make_index("ix_mass_chunks_msg_id", "mass_chunks", ["msg_id"])
    make_table(
        "gathered",
        sa.Column("job_no", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("recipient_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("openid", exact_text(128), nullable=False),
        sa.Column("chunk_no", sa.Integer),
        without_rowid=True,
    )
    make_index("gathered_by_chunk", "gathered", ["job_no", "chunk_no"])
