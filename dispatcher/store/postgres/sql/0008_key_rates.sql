-- rates of keys

ALTER TABLE queues ADD COLUMN IF NOT EXISTS key_rate_count bigint;

ALTER TABLE queues ADD COLUMN IF NOT EXISTS key_rate_ms bigint
    CHECK ((key_rate_count IS NULL) = (key_rate_ms IS NULL));

-- the bucket of a key, as far as it is not full, and when the next held task may be let in (store/keys.py); whoever
-- writes it has locked the key's row in key_locks, but for the pruner, who deletes full ones
CREATE TABLE IF NOT EXISTS key_rates (
    queue text NOT NULL,
    key text NOT NULL,
    full_at bigint NOT NULL,
    wake_at bigint,
    PRIMARY KEY (queue, key)
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS key_rates_wake ON key_rates (wake_at) WHERE wake_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS key_rates_full ON key_rates (full_at) WHERE wake_at IS NULL;
