-- rates of keys

ALTER TABLE queues ADD COLUMN key_rate_count INTEGER;
ALTER TABLE queues ADD COLUMN key_rate_ms INTEGER CHECK ((key_rate_count IS NULL) = (key_rate_ms IS NULL));

-- the bucket of a key, as far as it is not full, and when the next held task may be let in (store/keys.py)
CREATE TABLE key_rates (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    wake_at INTEGER,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_rates_wake ON key_rates (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX key_rates_full ON key_rates (full_at) WHERE wake_at IS NULL;
