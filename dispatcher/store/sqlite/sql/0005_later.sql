-- recurring schedules, and the names of tasks that may exist only once

CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    cron TEXT,                              -- five fields, in the zone; or else
    zone TEXT NOT NULL,
    every_ms INTEGER CHECK (every_ms > 0),  -- so long after the last tick
    catch_up TEXT NOT NULL CHECK (catch_up IN ('skip', 'once', 'all')),
    paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
    task TEXT NOT NULL,                     -- what is submitted, but for its data: the JSON object of queue/recurring.py
    data TEXT NOT NULL,
    next_at INTEGER,                        -- the tick that comes next: who moves it on has fired that tick
    last_at INTEGER,
    last_task_id INTEGER,
    last_error TEXT,                        -- why the last tick could not be submitted; NULL when it could
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((cron IS NULL) <> (every_ms IS NULL)),
    CHECK (paused = 0 OR next_at IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL;

-- the newest task that was submitted under a unique_key; goes with its task
CREATE TABLE unique_keys (
    unique_key TEXT PRIMARY KEY,
    task_id INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX unique_keys_task ON unique_keys (task_id);
