"""What runs beside the requests: one Loop, and steps with `run_once(now)`."""
