"""Does nothing but say so: appends `start` and `end` to the ledger, each line one write, and sleeps in between.

    payload  {"number": 7, "seconds": 0.005, "bytes": 0, "fail": false}

The file is opened anew for every line, so that nothing of one task is left in the next. It lies where
TASKMILL_LEDGER says.
"""

import os
import secrets
import time
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    number, run = payload["number"], secrets.token_hex(8)
    _note("start", task_id, number, run)
    time.sleep(payload.get("seconds", 0.005))
    if payload.get("fail"):
        raise RuntimeError(f"number {number} was to fail")
    _note("end", task_id, number, run)
    return {"number": number, "run": run, "padding": "x" * payload.get("bytes", 0)}


def _note(word: str, *rest: object) -> None:
    line = " ".join(map(str, (word, *rest, os.getpid(), os.getppid(), time.monotonic_ns()))) + "\n"
    ledger = os.open(os.environ["TASKMILL_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)
