"""nap: sleeps, and writes down when it began and ended.  Payload `{"ledger": path, "seconds": 0.02}`."""

import os
import time
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    """An empty result."""
    ledger = os.open(payload["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, f"begin {task_id} {time.monotonic()}\n".encode())
    time.sleep(payload["seconds"])
    os.write(ledger, f"end {task_id} {time.monotonic()}\n".encode())
    os.close(ledger)
    return {}
