-- How attempts are tried, counted and limited: what a task type wants unless its task says otherwise, which ends were
-- crashes, under which lease the present checkpoint was saved, limits of time, and workers that do not get a type.

ALTER TABLE task_types ADD COLUMN IF NOT EXISTS defaults text;

ALTER TABLE ended_leases ADD COLUMN IF NOT EXISTS crashed boolean NOT NULL DEFAULT false;

ALTER TABLE progress ADD COLUMN IF NOT EXISTS checkpoint_lease bigint;

-- only for tasks that have such a limit; looked at when `at` has come, and then dropped or moved on
CREATE TABLE IF NOT EXISTS deadlines (
    task_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('wait', 'total')),
    generation bigint NOT NULL,
    at bigint NOT NULL,                     -- not over before then, UTC milliseconds
    length_ms bigint NOT NULL,
    fired boolean NOT NULL DEFAULT false,   -- over: the holder was told to stop, the task is to fail
    PRIMARY KEY (task_id, kind)
);

CREATE INDEX IF NOT EXISTS deadlines_at ON deadlines (at);

CREATE TABLE IF NOT EXISTS blames (
    worker_id text NOT NULL,
    task_type text NOT NULL,
    blamed_at bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (worker_id, task_type)
);
