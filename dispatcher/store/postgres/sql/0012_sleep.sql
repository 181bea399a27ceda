-- workers may be told to sleep

ALTER TABLE worker_orders DROP CONSTRAINT IF EXISTS worker_orders_state_check,
    ADD CONSTRAINT worker_orders_state_check CHECK (state IN ('run', 'quiet', 'sleep'));

ALTER TABLE instances DROP CONSTRAINT IF EXISTS instances_ordered_check,
    ADD CONSTRAINT instances_ordered_check CHECK (ordered IN ('quiet', 'sleep', 'sleep_now', 'stop', 'stop_now'));
