-- The same rules about a task's columns, told so that SQLite looks at the state once: with three IN lists they took as
-- long as the writing of the row. No row changes, so the text of the table is exchanged instead of copying every task,
-- much as SQLite's page on ALTER TABLE has it (section 7). Other connections go on with the old text, since
-- `schema_version` stays: they only read, and the rules are the same.

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- an id is never handed out twice
    lane_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    timeout_ms INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,                     -- when the newest lease was granted
    finished_at INTEGER,
    cancel_requested_at INTEGER,
    lease INTEGER,                          -- token of the live lease; of a completed task: of the one that won
    lease_instance INTEGER,                 -- and who held it
    lease_request INTEGER,                  -- claim number that was granted it; NULL once taken back or adopted
    lease_expires INTEGER,                  -- on the steady clock
    lease_length INTEGER,                   -- what a renewal or the gap rule gives anew
    lease_provisional INTEGER NOT NULL DEFAULT 0,
    lease_misses INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,        -- 1: due, but its key''s limit keeps it from being ready
    CHECK (CASE state
        WHEN ''pending'' THEN lease_expires IS NULL AND lease IS NULL AND finished_at IS NULL AND ready BETWEEN 0 AND 1
        WHEN ''in_progress'' THEN lease_expires IS NOT NULL AND lease IS NOT NULL AND finished_at IS NULL AND ready = 0
        WHEN ''completed'' THEN lease_expires IS NULL AND lease IS NOT NULL AND finished_at IS NOT NULL AND ready = 0
        WHEN ''failed'' THEN lease_expires IS NULL AND lease IS NULL AND finished_at IS NOT NULL AND ready = 0
        WHEN ''cancelled'' THEN lease_expires IS NULL AND lease IS NULL AND finished_at IS NOT NULL AND ready = 0
        WHEN ''blocked'' THEN lease_expires IS NULL AND lease IS NULL AND finished_at IS NULL AND ready = 0
        ELSE 0 END),
    CHECK (held = 0 OR ready = 0),
    CHECK (attempts BETWEEN 0 AND max_attempts AND max_attempts >= 1),
    CHECK ((lease_expires IS NULL) = (lease_length IS NULL)),
    CHECK (lease_expires IS NOT NULL OR (lease_request IS NULL AND lease_provisional = 0 AND lease_misses = 0)),
    CHECK ((lease IS NULL) = (lease_instance IS NULL))
) STRICT' WHERE type = 'table' AND name = 'tasks';
PRAGMA writable_schema = RESET;
