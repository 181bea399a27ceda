-- webhooks

-- what is to be told of tasks that have ended, to whom, and when it is tried next; told or given up, a row goes
CREATE TABLE webhooks (
    delivery TEXT NOT NULL PRIMARY KEY,
    task_id INTEGER NOT NULL,
    url TEXT NOT NULL,
    body TEXT NOT NULL,
    tries INTEGER NOT NULL,
    due_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_due ON webhooks (due_at);
