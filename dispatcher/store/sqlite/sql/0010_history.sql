-- what went on, for charts: one row for each stretch of time and dispatcher (writer), kept for a day

CREATE TABLE history (
    step INTEGER NOT NULL CHECK (step > 0),  -- seconds that the row covers
    at INTEGER NOT NULL,                     -- when they began, UTC milliseconds
    writer TEXT NOT NULL,
    data TEXT NOT NULL,                      -- the JSON object of queue/history.py
    PRIMARY KEY (step, at, writer)
) STRICT, WITHOUT ROWID;
