"""What runs beside the requests: one Loop, three steps with `run_once(now)`."""
