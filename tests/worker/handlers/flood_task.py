"""Prints `megabytes`."""

from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> str:
    block = "x" * (1024 * 1024 - 1)
    for _ in range(payload["megabytes"]):
        print(block)
    print("the end", flush=True)
    if payload.get("raise"):
        raise RuntimeError("after the flood")
    return "dry"
