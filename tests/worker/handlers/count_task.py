"""count: writes its id, once for each execution."""

import os
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    ledger = os.open(payload["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, f"{task_id}\n".encode())
    os.close(ledger)
    return {}
