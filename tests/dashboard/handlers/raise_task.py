"""Fails with the error that it is given."""

from typing import Any


def execute(payload: dict[str, Any], context: Any) -> None:
    """Raises ValueError."""
    raise ValueError(payload.get("error", "no scene 17 here"))
