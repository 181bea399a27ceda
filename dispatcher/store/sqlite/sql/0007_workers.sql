-- what operators ordered, by the worker's name: `quiet` is remembered for every later instance of that name
CREATE TABLE worker_orders (
    worker_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('run', 'quiet')),
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- the order to this very instance, where every claim reads it anyway; NULL: run
ALTER TABLE instances ADD COLUMN ordered TEXT CHECK (ordered IN ('quiet', 'stop', 'stop_now'));
-- what the worker said of itself when it registered, as JSON
ALTER TABLE instances ADD COLUMN about TEXT;
CREATE INDEX instances_worker ON instances (worker_id);

-- what a task shows while it runs: its newest partial result, and the last lines of its log as a JSON list.
-- log_next numbers the lines of the attempt under log_lease, so that a repeated heartbeat adds none twice
CREATE TABLE task_output (
    task_id INTEGER PRIMARY KEY,
    partial TEXT,
    log TEXT,
    log_lease INTEGER,
    log_next INTEGER NOT NULL DEFAULT 0
) STRICT;
