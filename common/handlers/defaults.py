"""What a handler's module may say of its tasks: `max_attempts`, `backoff`, `timeout_seconds`."""

from collections.abc import Mapping
from typing import Any

TEN_YEARS = 10 * 365 * 86400
LIMITS = {"max_attempts": (1, 1000), "timeout_seconds": (0.001, TEN_YEARS)}
BACKOFF = {"first_seconds": (0, TEN_YEARS), "factor": (1, 100), "max_seconds": (0, TEN_YEARS), "jitter": (0, 1)}


def checked(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same, if it is right, or None for nothing; raises ValueError naming what is wrong."""
    for name, (low, high) in LIMITS.items():
        if name in told:
            _check(name, told[name], low, high)
    if not isinstance(told.get("max_attempts", 1), int):
        raise ValueError("max_attempts must be a whole number")
    if "backoff" in told:
        _check_backoff(told["backoff"])
    return dict(told) or None


def _check_backoff(backoff: Any) -> None:
    if not isinstance(backoff, dict) or not set(backoff) <= set(BACKOFF):
        raise ValueError(f"backoff must be a dict with some of {', '.join(BACKOFF)}")
    for name, value in backoff.items():
        _check(f"backoff.{name}", value, *BACKOFF[name])


def _check(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
