-- which ticks of a schedule were left out last, and why: from the first of them until before the second moment

ALTER TABLE schedules ADD COLUMN IF NOT EXISTS skipped_from bigint;

ALTER TABLE schedules ADD COLUMN IF NOT EXISTS skipped_until bigint;

ALTER TABLE schedules ADD COLUMN IF NOT EXISTS skipped_why text;
