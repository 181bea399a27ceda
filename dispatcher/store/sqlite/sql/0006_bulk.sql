-- Results compressed and dropped piece by piece, retention for each queue, and an index by which a queue's old tasks are found.

-- the result as zlib made it, where that is smaller; body is NULL then
ALTER TABLE results ADD COLUMN packed BLOB;

-- the size of a part before it was compressed (NULL: as it came), and whose upload it belongs to
ALTER TABLE upload_parts ADD COLUMN size INTEGER;
ALTER TABLE upload_parts ADD COLUMN upload INTEGER NOT NULL DEFAULT 0;

-- uploads that nothing refers to any more: a few parts at a time go
CREATE TABLE upload_trash (
    task_id INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    PRIMARY KEY (task_id, lease)
) STRICT, WITHOUT ROWID;

-- how long ended tasks of a queue are kept ('*': of every queue that says nothing itself)
CREATE TABLE retention (
    queue TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('completed', 'failed', 'cancelled')),
    seconds INTEGER NOT NULL CHECK (seconds >= 0),
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_ended ON tasks (state, lane_id, finished_at) WHERE finished_at IS NOT NULL;
DROP INDEX tasks_finished;
