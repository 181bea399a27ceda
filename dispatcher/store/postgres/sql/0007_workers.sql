-- what operators ordered, by the worker's name: `quiet` is remembered for every later instance of that name

CREATE TABLE IF NOT EXISTS worker_orders (
    worker_id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('run', 'quiet')),
    changed_at bigint NOT NULL
);

-- the order to this very instance, where every claim reads it anyway; NULL: run
ALTER TABLE instances ADD COLUMN IF NOT EXISTS ordered text CHECK (ordered IN ('quiet', 'stop', 'stop_now'));

-- what the worker said of itself when it registered, as JSON
ALTER TABLE instances ADD COLUMN IF NOT EXISTS about text;

CREATE INDEX IF NOT EXISTS instances_worker ON instances (worker_id);

-- what a task shows while it runs: its newest partial result, and the last lines of its log as a JSON list.
-- log_next numbers the lines of the attempt under log_lease, so that a repeated heartbeat adds none twice
CREATE TABLE IF NOT EXISTS task_output (
    task_id bigint PRIMARY KEY,
    partial text,
    log text,
    log_lease bigint,
    log_next bigint NOT NULL DEFAULT 0
);
