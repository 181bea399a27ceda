-- webhooks to one slow host must not keep those to others waiting: the host stands beside the time

ALTER TABLE webhooks ADD COLUMN IF NOT EXISTS host text NOT NULL DEFAULT '';

CREATE INDEX IF NOT EXISTS webhooks_due_host ON webhooks (due_at, host);

DROP INDEX IF EXISTS webhooks_due;
