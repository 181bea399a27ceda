"""Returns what it got."""

from typing import Any


def execute(payload: dict[str, Any], context: Any) -> dict[str, Any]:
    return payload
