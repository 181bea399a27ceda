"""Prints `megabytes`."""

import os
import sys
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> str:
    for _ in range(payload["megabytes"]):
        sys.stdout.write("x" * (1024 * 1024 - 1) + "\n")
    sys.stderr.write("the end\n")
    if payload.get("exit"):
        os._exit(1)
    return "dry"
