-- The first schema. The hot row (tasks) holds only what claims, leases and ends touch;
-- data, results, progress and ended leases live apart. Times are milliseconds.

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task_type TEXT NOT NULL,
    requires TEXT NOT NULL DEFAULT '[]',
    UNIQUE (queue, task_type, requires)
) STRICT;

-- how many tasks of a lane are in each state, and 'ready'; kept in the transactions that change them
CREATE TABLE counts (
    lane_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (lane_id, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
    id INTEGER PRIMARY KEY,
    instance_id TEXT UNIQUE,                -- NULL: the classic clients of this worker_id
    worker_id TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,         -- of the last heartbeat that was taken
    answered INTEGER NOT NULL DEFAULT 0,    -- the highest claim number that was answered with tasks
    died_at INTEGER,
    host TEXT
) STRICT;
CREATE UNIQUE INDEX instances_classic ON instances (worker_id) WHERE instance_id IS NULL;
CREATE INDEX instances_seen ON instances (seen_at);

CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- an id is never handed out twice
    lane_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('blocked', 'pending', 'in_progress', 'completed', 'failed', 'cancelled')),
    ready INTEGER NOT NULL DEFAULT 0 CHECK (ready = 0 OR (ready = 1 AND state = 'pending')),
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND max_attempts),
    max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
    generation INTEGER NOT NULL DEFAULT 1,
    timeout_ms INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,                     -- when the newest lease was granted
    finished_at INTEGER,
    cancel_requested_at INTEGER,
    lease INTEGER,                          -- token of the live lease; of a completed task: of the one that won
    lease_instance INTEGER,                 -- and who held it
    lease_request INTEGER,                  -- claim number that was granted it; NULL once taken back or adopted
    lease_expires INTEGER,                  -- on the steady clock
    lease_length INTEGER,                   -- what a renewal or the gap rule gives anew
    lease_provisional INTEGER NOT NULL DEFAULT 0,
    lease_misses INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'in_progress') = (lease_expires IS NOT NULL)),
    CHECK ((lease_expires IS NULL) = (lease_length IS NULL)),
    CHECK (lease_expires IS NOT NULL OR (lease_request IS NULL AND lease_provisional = 0 AND lease_misses = 0)),
    CHECK ((state IN ('in_progress', 'completed')) = (lease IS NOT NULL)),
    CHECK ((lease IS NULL) = (lease_instance IS NULL)),
    CHECK ((state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) STRICT;
-- what can be taken, in the order in which it is taken, and nothing else
CREATE INDEX tasks_ready ON tasks (lane_id, priority DESC, run_at, id) WHERE ready = 1;
CREATE INDEX tasks_due ON tasks (run_at) WHERE state = 'pending' AND ready = 0;
CREATE INDEX tasks_leases ON tasks (lease_instance, lease_request) WHERE lease_expires IS NOT NULL;
CREATE INDEX tasks_expiry ON tasks (lease_expires) WHERE lease_expires IS NOT NULL;
CREATE INDEX tasks_to_cancel ON tasks (lease_instance) WHERE cancel_requested_at IS NOT NULL AND lease_expires IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (state, finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE task_data (task_id INTEGER PRIMARY KEY, data TEXT NOT NULL, tags TEXT) STRICT;
CREATE TABLE task_tags (tag TEXT NOT NULL, task_id INTEGER NOT NULL, PRIMARY KEY (tag, task_id)) STRICT, WITHOUT ROWID;

-- remembered until the task is pruned and at least 24 hours
CREATE TABLE idempotency_keys (
    idempotency_key TEXT PRIMARY KEY,
    task_id INTEGER NOT NULL,
    digest BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    orphan INTEGER NOT NULL DEFAULT 0       -- 1: its task was pruned
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_task ON idempotency_keys (task_id);
CREATE INDEX idempotency_keys_orphans ON idempotency_keys (created_at) WHERE orphan = 1;

-- body NULL: the result was uploaded, its parts stand under the lease that won
CREATE TABLE results (task_id INTEGER PRIMARY KEY, body TEXT, run_ms INTEGER) STRICT;
CREATE TABLE uploads (
    task_id INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (task_id, lease)
) STRICT, WITHOUT ROWID;
CREATE TABLE upload_parts (
    task_id INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    part INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (task_id, lease, part)
) STRICT;

CREATE TABLE progress (
    task_id INTEGER PRIMARY KEY,
    done REAL,
    total REAL,
    note TEXT,
    checkpoint TEXT,
    updated_at INTEGER NOT NULL
) STRICT;

-- one row for each ended lease that did not complete in time; it answers every repeat of its report
CREATE TABLE ended_leases (
    id INTEGER PRIMARY KEY,
    task_id INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    instance INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    how TEXT NOT NULL CHECK (how IN
        ('completed', 'failed', 'released', 'snoozed', 'cancelled', 'expired', 'unlisted', 'died', 'superseded')),
    charged INTEGER NOT NULL CHECK (charged IN (0, 1)),
    claimed_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    error TEXT,
    UNIQUE (task_id, lease)
) STRICT;

CREATE TABLE task_types (name TEXT PRIMARY KEY, schema TEXT, updated_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
