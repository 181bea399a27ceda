-- what went on, for charts: one row for each stretch of time and dispatcher (writer), kept for a day

CREATE TABLE IF NOT EXISTS history (
    step integer NOT NULL CHECK (step > 0),
    at bigint NOT NULL,
    writer text NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (step, at, writer)
);
