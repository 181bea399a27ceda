"""Counts how often it was set up; fails to be once, if the file named by TEST_SETUP_FAILS exists."""

import os
from typing import Any

count = 0


def setup() -> None:
    global count
    if os.path.exists(os.environ.get("TEST_SETUP_FAILS", "")):
        raise RuntimeError("no licence")
    count += 1


def execute(task_id: int, payload: dict[str, Any]) -> int:
    return count
