-- How attempts are tried, counted and limited: what a task type wants unless its task says otherwise, which ends were
-- crashes, under which lease the present checkpoint was saved, limits of time, and workers that do not get a type.

ALTER TABLE task_types ADD COLUMN defaults TEXT;
ALTER TABLE ended_leases ADD COLUMN crashed INTEGER NOT NULL DEFAULT 0 CHECK (crashed IN (0, 1));
ALTER TABLE progress ADD COLUMN checkpoint_lease INTEGER;

-- only for tasks that have such a limit; looked at when `at` has come, and then dropped or moved on
CREATE TABLE deadlines (
    task_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('wait', 'total')),
    generation INTEGER NOT NULL,
    at INTEGER NOT NULL,                    -- not over before then, UTC milliseconds
    length_ms INTEGER NOT NULL,
    fired INTEGER NOT NULL DEFAULT 0 CHECK (fired IN (0, 1)),  -- over: the holder was told to stop, the task is to fail
    PRIMARY KEY (task_id, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX deadlines_at ON deadlines (at);

CREATE TABLE blames (
    worker_id TEXT NOT NULL,
    task_type TEXT NOT NULL,
    blamed_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (worker_id, task_type)
) STRICT, WITHOUT ROWID;
