-- what a task rarely asks for (how to try again, limits, memory), as one JSON object beside its data: the hot row stays narrow

ALTER TABLE task_data ADD COLUMN IF NOT EXISTS options text;
