-- settings of queues, and tasks that share a key

-- one row for each queue that was ever configured; NULL: no limit. The bucket is that of the rate (queue/turns.py)
CREATE TABLE queues (
    queue TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    max_running INTEGER,
    rate_count INTEGER,
    rate_ms INTEGER,
    weight INTEGER,
    max_waiting INTEGER,
    key_running INTEGER,
    bucket INTEGER,
    bucket_at INTEGER,
    CHECK ((rate_count IS NULL) = (rate_ms IS NULL)),
    CHECK ((bucket IS NULL) = (bucket_at IS NULL))
) STRICT, WITHOUT ROWID;

-- only tasks with a key have a row: 'active' ones are ready or leased, 'held' ones wait for those, in this order
CREATE TABLE task_keys (
    task_id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'held', 'idle')),
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL
) STRICT;
CREATE INDEX task_keys_order ON task_keys (queue, key, status, priority DESC, run_at, task_id);

-- 1: due, but its key's limit keeps it from being ready; the end of another task of the key lets it in
ALTER TABLE tasks ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held = 0 OR ready = 0);
DROP INDEX tasks_due;
CREATE INDEX tasks_due ON tasks (run_at) WHERE state = 'pending' AND ready = 0 AND held = 0;
