"""Returns a value that is hard to report."""

import math
from typing import Any

VALUES: dict[str, Any] = {
    "nan": {"deep": [1, math.nan]},
    "huge integer": {"n": 2**70},
    "surrogate": ["ok", "\ud800"],
    "nul": "a\0b",
    "set": {"deep": {"er": {1, 2}}},
    "object": {"it": object()},
    "deep": None,
    "bytes": b"\x00\xffraw",
    "failed": {"status": "failed", "error": "no such city"},
    "text": "é✓",
}
for _ in range(70):
    VALUES["deep"] = [VALUES["deep"]]


def execute(task_id: int, payload: dict[str, Any]) -> Any:
    if "bytes_of" in payload:
        return bytes(payload["bytes_of"])
    if "text_of" in payload:
        return "x" * payload["text_of"]
    return VALUES[payload["value"]]
