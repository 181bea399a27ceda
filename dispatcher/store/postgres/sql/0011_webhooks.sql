-- webhooks

-- what is to be told of tasks that have ended, to whom, and when it is tried next; told or given up, a row goes
CREATE TABLE IF NOT EXISTS webhooks (
    delivery text PRIMARY KEY,
    task_id bigint NOT NULL,
    url text NOT NULL,
    body text NOT NULL,
    tries bigint NOT NULL,
    due_at bigint NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS webhooks_due ON webhooks (due_at);
