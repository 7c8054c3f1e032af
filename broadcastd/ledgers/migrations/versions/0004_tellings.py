"""Which jobs' ends the site has been told of. Those that ended before count as told."""

import sqlalchemy as sa
from alembic import op

from broadcastd.ledgers.migrations.steps import add_column, make_index

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """A new column; it is filled again as often as this runs, with the same."""
    add_column("jobs", sa.Column("told_at", sa.BigInteger))
    make_index("ix_jobs_told_at", "jobs", ["told_at"])
    jobs = sa.table("jobs", sa.column("told_at"), sa.column("finished_at"))
    op.execute(
        sa.update(jobs)
        .where(jobs.c.told_at.is_(None), jobs.c.finished_at.is_not(None))
        .values(told_at=jobs.c.finished_at)
    )
