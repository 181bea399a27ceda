-- workers may be told to sleep. The new column takes the old one's place, for SQLite changes no CHECK of its own

ALTER TABLE instances ADD COLUMN told TEXT CHECK (told IN ('quiet', 'sleep', 'sleep_now', 'stop', 'stop_now'));
UPDATE instances SET told = ordered WHERE ordered IS NOT NULL;
ALTER TABLE instances DROP COLUMN ordered;
ALTER TABLE instances RENAME COLUMN told TO ordered;

ALTER TABLE worker_orders RENAME TO former_orders;
CREATE TABLE worker_orders (
    worker_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('run', 'quiet', 'sleep')),
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO worker_orders SELECT worker_id, state, changed_at FROM former_orders;
DROP TABLE former_orders;
