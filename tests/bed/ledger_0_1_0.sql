-- The tables of a ledger of release 0.1.0, as its SQLite file holds them.
CREATE TABLE meta (
	name VARCHAR(64) NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE jobs (
	no INTEGER NOT NULL,
	id VARCHAR(16) NOT NULL,
	account VARCHAR(64) NOT NULL,
	state VARCHAR(16) NOT NULL,
	reason TEXT NOT NULL,
	content TEXT NOT NULL,
	phone TEXT NOT NULL,
	"key" TEXT,
	ref TEXT,
	flag INTEGER,
	"to" JSON,
	channels JSON NOT NULL,
	messages JSON NOT NULL,
	on_unknown VARCHAR(16) NOT NULL,
	accepted_at BIGINT NOT NULL,
	started_at BIGINT,
	finished_at BIGINT,
	first_sent_at BIGINT,
	last_sent_at BIGINT,
	planned BOOLEAN NOT NULL,
	planned_through BIGINT,
	recipients INTEGER NOT NULL,
	in_doubt INTEGER NOT NULL,
	PRIMARY KEY (no),
	UNIQUE (id)
);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE TABLE job_keys (
	account VARCHAR(64) NOT NULL,
	kind VARCHAR(8) NOT NULL,
	"key" VARCHAR(255) NOT NULL,
	flag INTEGER NOT NULL,
	job_no INTEGER NOT NULL,
	digest VARCHAR(64) NOT NULL,
	expires_at BIGINT NOT NULL,
	PRIMARY KEY (account, kind, "key", flag)
);
CREATE INDEX ix_job_keys_expires_at ON job_keys (expires_at);
CREATE TABLE slices (
	job_no INTEGER NOT NULL,
	no INTEGER NOT NULL,
	first_id BIGINT NOT NULL,
	last_id BIGINT NOT NULL,
	size INTEGER NOT NULL,
	ids BLOB NOT NULL,
	mark BIGINT,
	state VARCHAR(8) NOT NULL,
	due_at BIGINT NOT NULL,
	lease BIGINT,
	owner VARCHAR(128),
	lease_until BIGINT,
	PRIMARY KEY (job_no, no)
);
CREATE INDEX slices_by_state ON slices (state, job_no, due_at);
CREATE TABLE deferrals (
	job_no INTEGER NOT NULL,
	recipient_id BIGINT NOT NULL,
	slice_no INTEGER NOT NULL,
	due_at BIGINT NOT NULL,
	channel_no INTEGER NOT NULL,
	tries INTEGER NOT NULL,
	doubts INTEGER NOT NULL,
	refusals INTEGER NOT NULL,
	armed BOOLEAN NOT NULL,
	PRIMARY KEY (job_no, recipient_id)
)
 WITHOUT ROWID;
CREATE TABLE outcomes (
	job_no INTEGER NOT NULL,
	recipient_id BIGINT NOT NULL,
	openid VARCHAR(128),
	outcome VARCHAR(8) NOT NULL,
	channel VARCHAR(16) NOT NULL,
	errcode INTEGER NOT NULL,
	at BIGINT NOT NULL,
	PRIMARY KEY (job_no, recipient_id)
)
 WITHOUT ROWID;
CREATE TABLE tallies (
	job_no INTEGER NOT NULL,
	outcome VARCHAR(8) NOT NULL,
	channel VARCHAR(16) NOT NULL,
	errcode INTEGER NOT NULL,
	n INTEGER NOT NULL,
	PRIMARY KEY (job_no, outcome, channel, errcode)
)
 WITHOUT ROWID;
