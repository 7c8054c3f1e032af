"""The ledger's tables. Times are integers: milliseconds since 1970, UTC.

A change here is a migration (`migrations/versions`) too, and a new `migration.HEAD`.
"""

from typing import Any

import sqlalchemy as sa

from broadcastd.ledgers.column_types import LONG_TEXT, ExactText

WHOLE_AUDIENCE = -1
"""`flag` of a key whose frame had none: SQL's NULL would not be unique."""

metadata = sa.MetaData()

_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_row_format": "DYNAMIC",  # keys of more than 767 bytes
}

# Single values: names the node, counts its starts. `version` is only for release 0.1.0, which reads it.
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    **_MYSQL,
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("no", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", ExactText(16), nullable=False, unique=True),
    sa.Column("account", ExactText(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("hold_kind", sa.String(16), nullable=False, server_default=""),  # model.HoldKind of a held job
    sa.Column("content", LONG_TEXT, nullable=False),
    sa.Column("phone", LONG_TEXT, nullable=False),
    sa.Column("key", LONG_TEXT),
    sa.Column("ref", LONG_TEXT),
    sa.Column("flag", sa.Integer),
    sa.Column("to", sa.JSON),  # a test send's openids
    sa.Column("channels", sa.JSON, nullable=False),
    sa.Column("messages", sa.JSON, nullable=False),  # channel to rendered message
    sa.Column("on_unknown", sa.String(16), nullable=False),
    sa.Column("accepted_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("first_sent_at", sa.BigInteger),
    sa.Column("last_sent_at", sa.BigInteger),
    sa.Column("planned", sa.Boolean, nullable=False, default=False),
    sa.Column("planned_through", sa.BigInteger),  # the last frozen id
    sa.Column("recipients", sa.Integer, nullable=False, default=0),  # how many are frozen
    sa.Column("in_doubt", sa.Integer, nullable=False, default=0),  # cumulative
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),  # the present one
    sa.Column("not_before", sa.BigInteger),
    sa.Column("not_after", sa.BigInteger),
    sa.Column("purged_at", sa.BigInteger),  # since then only key and totals are kept
    sa.Column("held_until", sa.BigInteger),  # when it is tried again by itself
    sa.Column("warnings", sa.JSON),  # what an operator should know of it, in plain words
    sa.Column("calls_saved", sa.Integer, nullable=False, server_default="0"),  # that must have failed
    sa.Column("told_at", sa.BigInteger, index=True),  # the site knows that it has ended, or need not
    **_MYSQL,
)

# The first pass over a job is round 1; each retry adds one. `only`: the outcomes that it asks again.
rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True),
    sa.Column("no", sa.Integer, primary_key=True),
    sa.Column("only", sa.JSON),
    sa.Column("accepted_at", sa.BigInteger, nullable=False),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("recipients", sa.Integer, nullable=False, server_default="0"),  # frozen in this round
    sa.Column("ended", sa.Integer, nullable=False, server_default="0"),  # of these, with an outcome of it
    **_MYSQL,
)

# Which job a key, or a frame's own content, belongs to, and until when.
job_keys = sa.Table(
    "job_keys",
    metadata,
    sa.Column("account", ExactText(64), primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),  # "key", or "content" for a frame without one
    sa.Column("key", ExactText(255), primary_key=True),
    sa.Column("flag", sa.Integer, primary_key=True),
    sa.Column("job_no", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    **_MYSQL,
)

slices = sa.Table(
    "slices",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True),
    sa.Column("no", sa.Integer, primary_key=True),
    sa.Column("first_id", sa.BigInteger, nullable=False),
    sa.Column("last_id", sa.BigInteger, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("ids", sa.LargeBinary, nullable=False),  # frozen.pack_ids
    sa.Column("mark", sa.BigInteger),  # asked up to this id
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False, default=0),
    sa.Column("lease", sa.BigInteger),
    sa.Column("owner", sa.String(128)),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),
    sa.Index("slices_by_state", "state", "job_no", "due_at"),
    sa.Index("slices_by_first_id", "job_no", "first_id"),
    **_MYSQL,
)

# Who is due again later: asked and refused, or in doubt and to be asked once more.
deferrals = sa.Table(
    "deferrals",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True),
    sa.Column("recipient_id", sa.BigInteger, primary_key=True),
    sa.Column("slice_no", sa.Integer, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("channel_no", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("doubts", sa.Integer, nullable=False),
    sa.Column("refusals", sa.Integer, nullable=False),
    sa.Column("armed", sa.Boolean, nullable=False, default=False),  # about to be asked: in doubt
    sqlite_with_rowid=False,
    **_MYSQL,
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True),
    sa.Column("recipient_id", sa.BigInteger, primary_key=True),
    sa.Column("openid", ExactText(128)),
    sa.Column("outcome", sa.String(8), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("errcode", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),
    sqlite_with_rowid=False,
    **_MYSQL,
)

# What a later round has replaced: with `outcomes`, one row a recipient and round.
former_outcomes = sa.Table(
    "former_outcomes",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True),
    sa.Column("recipient_id", sa.BigInteger, primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("openid", ExactText(128)),
    sa.Column("outcome", sa.String(8), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("errcode", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
    **_MYSQL,
)

# The books: sums over `outcomes`, written in the same commit as the rows they count.
tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.String(8), primary_key=True),
    sa.Column("channel", sa.String(16), primary_key=True),
    sa.Column("errcode", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
    **_MYSQL,
)

# What is known of an account's followers: each column from something that WeChat said, none is certain.
followers = sa.Table(
    "followers",
    metadata,
    sa.Column("account", ExactText(64), primary_key=True),
    sa.Column("openid", ExactText(128), primary_key=True),
    sa.Column("window_until", sa.BigInteger),  # the customer-service window is open until
    sa.Column("window_left", sa.Integer),  # and takes so many messages
    sa.Column("closed_at", sa.BigInteger),  # WeChat said so (45015, 45047) at
    sa.Column("gone_code", sa.Integer, nullable=False, server_default="0"),  # does not follow, blocks
    sa.Column("gone_at", sa.BigInteger),
    sa.Column("refused_at", sa.BigInteger),  # no consent to subscription messages (43101)
    sa.Column("opted_out_at", sa.BigInteger),  # by a reply
    sqlite_with_rowid=False,
    **_MYSQL,
)

# What WeChat pushed to the callback: durable before it is answered.
pushes = sa.Table(
    "pushes",
    metadata,
    sa.Column("no", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("account", ExactText(64), nullable=False),
    sa.Column("dedupe_key", ExactText(255), nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("applied_at", sa.BigInteger, index=True),
    sa.Index("pushes_by_key", "account", "dedupe_key", unique=True),
    **_MYSQL,
)

# A message's delivery: the send side knows the recipient, the event the status, in either order.
receipts = sa.Table(
    "receipts",
    metadata,
    sa.Column("account", ExactText(64), primary_key=True),
    sa.Column("channel", sa.String(16), primary_key=True),
    sa.Column("msgid", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("openid", ExactText(128)),
    sa.Column("job_no", sa.Integer),
    sa.Column("recipient_id", sa.BigInteger),
    sa.Column("status", sa.String(16), nullable=False, server_default=""),  # delivered, blocked, failed
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Index("receipts_by_recipient", "job_no", "recipient_id"),
    sa.Index("receipts_by_openid", "account", "openid"),
    sqlite_with_rowid=False,
    **_MYSQL,
)

# Sums over complete receipts, written in the same commit.
delivery_tallies = sa.Table(
    "delivery_tallies",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("channel", sa.String(16), primary_key=True),
    sa.Column("status", sa.String(16), primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
    **_MYSQL,
)

# A mass message's call: its list (`gathered`) and `clientmsgid` never change once it may have been made.
mass_chunks = sa.Table(
    "mass_chunks",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("clientmsgid", ExactText(64), nullable=False, unique=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("made_at", sa.BigInteger, nullable=False),
    sa.Column("asked_at", sa.BigInteger),  # the last call
    sa.Column("first_asked_at", sa.BigInteger),  # the first one that may have arrived
    sa.Column("counted", sa.Boolean, nullable=False, server_default="0"),  # in the job's in_doubt
    sa.Column("msg_id", sa.BigInteger, index=True),
    sa.Column("errcode", sa.Integer, nullable=False, server_default="0"),
    sa.Column("result", sa.JSON),  # of the event MASSSENDJOBFINISH
    **_MYSQL,
)

# Who waits for a mass message, and (`chunk_no`) which one.
gathered = sa.Table(
    "gathered",
    metadata,
    sa.Column("job_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("recipient_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("openid", ExactText(128), nullable=False),
    sa.Column("chunk_no", sa.Integer),
    sa.Index("gathered_by_chunk", "job_no", "chunk_no"),
    sqlite_with_rowid=False,
    **_MYSQL,
)
