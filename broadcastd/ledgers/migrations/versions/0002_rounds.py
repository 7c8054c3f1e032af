"""Rounds, deadlines, kinds of holds, the history of outcomes, and what has been purged."""

import sqlalchemy as sa
from alembic import op

from broadcastd.ledgers.migrations.steps import add_column, exact_text, make_index, make_table

revision = "0002"
down_revision = "0001"

_meta = sa.table("meta", sa.column("name"), sa.column("value"))
_jobs = sa.table(
    "jobs",
    *(sa.column(name) for name in ("no", "state", "hold_kind", "recipients")),
    *(sa.column(name) for name in ("accepted_at", "finished_at", "first_sent_at", "last_sent_at")),
)
_rounds = sa.table(
    "rounds",
    *(sa.column(name) for name in ("job_no", "no", "accepted_at", "finished_at", "recipients", "ended")),
)
_tallies = sa.table("tallies", sa.column("job_no"), sa.column("n"))


def upgrade() -> None:
    """Tables and columns first: on MySQL, what follows is one commit then."""
    _make_tables()
    _add_columns()
    _begin_first_rounds()
    _name_the_holds()
    _note_last_sign_of_life()
    _turn_away_0_1_0()


def _make_tables() -> None:
    make_table(
        "rounds",
        sa.Column("job_no", sa.Integer, primary_key=True),
        sa.Column("no", sa.Integer, primary_key=True),
        sa.Column("only", sa.JSON),
        sa.Column("accepted_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("recipients", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ended", sa.Integer, nullable=False, server_default="0"),
    )
    make_table(
        "former_outcomes",
        sa.Column("job_no", sa.Integer, primary_key=True),
        sa.Column("recipient_id", sa.BigInteger, primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("openid", exact_text(128)),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("errcode", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        without_rowid=True,
    )


def _add_columns() -> None:
    add_column("jobs", sa.Column("hold_kind", sa.String(16), nullable=False, server_default=""))
    for table in ("jobs", "slices", "outcomes"):
        add_column(table, sa.Column("round", sa.Integer, nullable=False, server_default="1"))
    for name in ("not_before", "not_after", "purged_at"):
        add_column("jobs", sa.Column(name, sa.BigInteger))
    make_index("slices_by_first_id", "slices", ["job_no", "first_id"])


def _begin_first_rounds() -> None:
    """All that a job has been so far is its first round: frozen and ended as its own books say."""
    ended = sa.select(sa.func.coalesce(sa.func.sum(_tallies.c.n), 0)).where(_tallies.c.job_no == _jobs.c.no)
    has_one = sa.exists().where(_rounds.c.job_no == _jobs.c.no)
    first = sa.select(
        _jobs.c.no,
        sa.literal_column("1"),
        _jobs.c.accepted_at,
        _jobs.c.finished_at,
        _jobs.c.recipients,
        ended.scalar_subquery(),
    ).where(~has_one)
    names = ["job_no", "no", "accepted_at", "finished_at", "recipients", "ended"]
    op.execute(sa.insert(_rounds).from_select(names, first))


def _name_the_holds() -> None:
    held = sa.and_(_jobs.c.state == "held", _jobs.c.hold_kind == "")
    op.execute(sa.update(_jobs).where(held).values(hold_kind="trouble"))


def _note_last_sign_of_life() -> None:
    """0.1.0 kept no heartbeat. Without one, a job left open months ago would be sent at the first start."""
    seen = [
        sa.func.max(moment) for moment in (_jobs.c.accepted_at, _jobs.c.last_sent_at, _jobs.c.finished_at)
    ]
    moments = [one for one in op.get_bind().execute(sa.select(*seen)).one() if one is not None]
    if moments:
        _put_unless_there("heartbeat_at", str(max(moments)))


def _turn_away_0_1_0() -> None:
    """It reads this value, and names it: it must not work on rounds that it does not know."""
    op.execute(sa.update(_meta).where(_meta.c.name == "version").values(value="2"))
    _put_unless_there("version", "2")


def _put_unless_there(name: str, value: str) -> None:
    there = sa.select(_meta.c.name).where(_meta.c.name == name)
    if op.get_bind().execute(there).first() is None:
        op.execute(sa.insert(_meta).values(name=name, value=value))
