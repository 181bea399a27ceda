-- recurring schedules, and the names of tasks that may exist only once

CREATE TABLE IF NOT EXISTS schedules (
    name text PRIMARY KEY,
    cron text,                              -- five fields, in the zone; or else
    zone text NOT NULL,
    every_ms bigint CHECK (every_ms > 0),   -- so long after the last tick
    catch_up text NOT NULL CHECK (catch_up IN ('skip', 'once', 'all')),
    paused boolean NOT NULL,
    task text NOT NULL,                     -- what is submitted, but for its data: the JSON object of queue/recurring.py
    data text NOT NULL,
    next_at bigint,                         -- the tick that comes next: who moves it on has fired that tick
    last_at bigint,
    last_task_id bigint,
    last_error text,                        -- why the last tick could not be submitted; NULL when it could
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    CHECK ((cron IS NULL) <> (every_ms IS NULL)),
    CHECK (NOT paused OR next_at IS NULL)
);

CREATE INDEX IF NOT EXISTS schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL;

-- the newest task that was submitted under a unique_key; goes with its task
CREATE TABLE IF NOT EXISTS unique_keys (
    unique_key text PRIMARY KEY,
    task_id bigint NOT NULL,
    submitted_at bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS unique_keys_task ON unique_keys (task_id);
