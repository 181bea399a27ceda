"""Returns what it got, and who ran it."""

import os
from typing import Any

from sibling import WORD


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    return {"task_id": task_id, "payload": payload, "pid": os.getpid(), "sibling": WORD}
