"""The schema of release 0.1.0, which knew of one version only and noted it in `meta`."""

import sqlalchemy as sa

from broadcastd.ledgers.migrations.steps import LONG_TEXT, exact_text, make_index, make_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    make_table(
        "meta",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _jobs()
    _slices()
    _recipients()


def _jobs() -> None:
    make_table(
        "jobs",
        sa.Column("no", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", exact_text(16), nullable=False, unique=True),
        sa.Column("account", exact_text(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("content", LONG_TEXT, nullable=False),
        sa.Column("phone", LONG_TEXT, nullable=False),
        sa.Column("key", LONG_TEXT),
        sa.Column("ref", LONG_TEXT),
        sa.Column("flag", sa.Integer),
        sa.Column("to", sa.JSON),
        sa.Column("channels", sa.JSON, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("on_unknown", sa.String(16), nullable=False),
        sa.Column("accepted_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("first_sent_at", sa.BigInteger),
        sa.Column("last_sent_at", sa.BigInteger),
        sa.Column("planned", sa.Boolean, nullable=False),
        sa.Column("planned_through", sa.BigInteger),
        sa.Column("recipients", sa.Integer, nullable=False),
        sa.Column("in_doubt", sa.Integer, nullable=False),
    )
    make_index("ix_jobs_state", "jobs", ["state"])
    make_table(
        "job_keys",
        sa.Column("account", exact_text(64), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("key", exact_text(255), primary_key=True),
        sa.Column("flag", sa.Integer, primary_key=True),
        sa.Column("job_no", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    make_index("ix_job_keys_expires_at", "job_keys", ["expires_at"])


def _slices() -> None:
    make_table(
        "slices",
        sa.Column("job_no", sa.Integer, primary_key=True),
        sa.Column("no", sa.Integer, primary_key=True),
        sa.Column("first_id", sa.BigInteger, nullable=False),
        sa.Column("last_id", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("ids", sa.LargeBinary, nullable=False),
        sa.Column("mark", sa.BigInteger),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("lease", sa.BigInteger),
        sa.Column("owner", sa.String(128)),
        sa.Column("lease_until", sa.BigInteger),
    )
    make_index("slices_by_state", "slices", ["state", "job_no", "due_at"])


def _recipients() -> None:
    make_table(
        "deferrals",
        sa.Column("job_no", sa.Integer, primary_key=True),
        sa.Column("recipient_id", sa.BigInteger, primary_key=True),
        sa.Column("slice_no", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("channel_no", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("doubts", sa.Integer, nullable=False),
        sa.Column("refusals", sa.Integer, nullable=False),
        sa.Column("armed", sa.Boolean, nullable=False),
        without_rowid=True,
    )
    make_table(
        "outcomes",
        sa.Column("job_no", sa.Integer, primary_key=True),
        sa.Column("recipient_id", sa.BigInteger, primary_key=True),
        sa.Column("openid", exact_text(128)),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("errcode", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        without_rowid=True,
    )
    make_table(
        "tallies",
        sa.Column("job_no", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.String(8), primary_key=True),
        sa.Column("channel", sa.String(16), primary_key=True),
        sa.Column("errcode", sa.Integer, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
        without_rowid=True,
    )
