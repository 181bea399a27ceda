"""steps: sleeps step by step, writes each down, and goes on after the last checkpoint of an earlier attempt.

Payload `{"ledger": path, "seconds": 0.05, "steps": 20, "checkpoints": true}`.
"""

import os
import time
from typing import Any


def execute(payload: dict[str, Any], context: Any) -> dict[str, Any]:
    """How many steps this attempt made."""
    first = context.checkpoint_state or 0 if payload["checkpoints"] else 0
    ledger = os.open(payload["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for step in range(first, payload["steps"]):
        time.sleep(payload["seconds"])
        os.write(ledger, f"{payload['name']} {step} {time.monotonic()}\n".encode())
        if payload["checkpoints"]:
            context.checkpoint(step + 1)
    os.close(ledger)
    return {"steps": payload["steps"] - first}
