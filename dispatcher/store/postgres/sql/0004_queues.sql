-- settings of queues, and tasks that share a key

-- one row for each queue that was ever configured; NULL: no limit. The bucket is that of the rate (queue/turns.py)
CREATE TABLE IF NOT EXISTS queues (
    queue text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    max_running bigint,
    rate_count bigint,
    rate_ms bigint,
    weight bigint,
    max_waiting bigint,
    key_running bigint,
    bucket bigint,
    bucket_at bigint,
    CHECK ((rate_count IS NULL) = (rate_ms IS NULL)),
    CHECK ((bucket IS NULL) = (bucket_at IS NULL))
) WITH (fillfactor = 50);

-- raised by whoever changed the settings: a transaction that began with the old ones cannot commit any more
ALTER TABLE spells ADD COLUMN IF NOT EXISTS settings bigint NOT NULL DEFAULT 0;

-- only tasks with a key have a row: 'active' ones are ready or leased, 'held' ones wait for those, in this order
CREATE TABLE IF NOT EXISTS task_keys (
    task_id bigint PRIMARY KEY,
    queue text NOT NULL,
    key text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'held', 'idle')),
    priority bigint NOT NULL,
    run_at bigint NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS task_keys_order ON task_keys (queue, key, status, (-priority), run_at, task_id);

-- whoever counts the active tasks of a key locks its row here
CREATE TABLE IF NOT EXISTS key_locks (queue text NOT NULL, key text NOT NULL, PRIMARY KEY (queue, key));

-- due, but its key's limit keeps it from being ready; the end of another task of the key lets it in
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS held boolean NOT NULL DEFAULT false CHECK (NOT held OR NOT ready);

CREATE INDEX IF NOT EXISTS tasks_due_now ON tasks (run_at) WHERE state = 'pending' AND NOT ready AND NOT held;

DROP INDEX IF EXISTS tasks_due;
