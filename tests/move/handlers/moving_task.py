"""Notes that it runs; then, if it is told to, waits until a file is there."""

import os
import time
from pathlib import Path


def execute(task_id: int, payload: dict[str, str]) -> dict[str, int]:
    with open(payload["ledger"], "a") as file:
        os.write(file.fileno(), f"{task_id}\n".encode())
    while "gate" in payload and not Path(payload["gate"]).exists():
        time.sleep(0.01)
    return {"task": task_id}
