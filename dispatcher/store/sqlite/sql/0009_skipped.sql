-- which ticks of a schedule were left out last, and why: from the first of them until before the second moment

ALTER TABLE schedules ADD COLUMN skipped_from INTEGER;
ALTER TABLE schedules ADD COLUMN skipped_until INTEGER;
ALTER TABLE schedules ADD COLUMN skipped_why TEXT;
