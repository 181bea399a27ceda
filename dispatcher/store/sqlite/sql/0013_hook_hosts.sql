-- webhooks to one slow host must not keep those to others waiting: the host stands beside the time

ALTER TABLE webhooks ADD COLUMN host TEXT NOT NULL DEFAULT '';
DROP INDEX webhooks_due;
CREATE INDEX webhooks_due ON webhooks (due_at, host);
