-- Results compressed and dropped piece by piece, retention for each queue, and an index by which a queue's old tasks are found.

-- the result as zlib made it, where that is smaller; body is NULL then
ALTER TABLE results ADD COLUMN IF NOT EXISTS packed bytea;

-- the size of a part before it was compressed (NULL: as it came), and whose upload it belongs to
ALTER TABLE upload_parts ADD COLUMN IF NOT EXISTS size bigint;

ALTER TABLE upload_parts ADD COLUMN IF NOT EXISTS upload bigint NOT NULL DEFAULT 0;

-- uploads that nothing refers to any more: a few parts at a time go
CREATE TABLE IF NOT EXISTS upload_trash (task_id bigint NOT NULL, lease bigint NOT NULL, PRIMARY KEY (task_id, lease));

-- how long ended tasks of a queue are kept ('*': of every queue that says nothing itself)
CREATE TABLE IF NOT EXISTS retention (
    queue text NOT NULL,
    state text NOT NULL CHECK (state IN ('completed', 'failed', 'cancelled')),
    seconds bigint NOT NULL CHECK (seconds >= 0),
    PRIMARY KEY (queue, state)
);

CREATE INDEX IF NOT EXISTS tasks_ended ON tasks (state, lane_id, finished_at) WHERE finished_at IS NOT NULL;

DROP INDEX IF EXISTS tasks_finished;
