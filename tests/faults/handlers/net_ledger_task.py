"""net_ledger: writes a line for each execution.  Payload `{"ledger": path, "n": 5, "seconds": 0.01, "bytes": 0}`."""

import os
import time
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    """`{"n": 5}`, and as many bytes of text as were asked for."""
    ledger = os.open(payload["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, f"{task_id}\n".encode())
    os.close(ledger)
    time.sleep(payload.get("seconds", 0))
    return {"n": payload["n"], **({"text": "x" * payload["bytes"]} if payload.get("bytes") else {})}
