"""noop: does nothing, with any payload. It measures the queue alone."""

from typing import Any


def execute(task_id: int, payload: Any) -> dict[str, Any]:
    """An empty result."""
    return {}
