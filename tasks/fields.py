"""Reading the fields of a payload. Every refusal is a ValueError that names field and value.

Plain functions instead of pydantic, which would cost every child some 60 ms and 15 MB at its first task.
"""

from collections.abc import Collection, Mapping
from typing import Any

Fields = Mapping[str, Any]


def whole_number(payload: Fields, name: str, low: int, high: int | None = None, default: int | None = None) -> int:
    """An integer from `low` to `high`; true, false and 5.0 are none."""
    value = _given(payload, name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {shown(value)}")
    _within(name, value, low, high)
    return value


def number(payload: Fields, name: str, low: float, high: float) -> float:
    """A number from `low` to `high`, whole or not."""
    value = _given(payload, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, not {shown(value)}")
    _within(name, value, low, high)
    return value


def text(payload: Fields, name: str) -> str:
    """A text, possibly empty."""
    value = _given(payload, name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {shown(value)}")
    return value


def flag(payload: Fields, name: str) -> bool | None:
    """True, false, or None where it is not given."""
    value = payload.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {shown(value)}")
    return value


def choice(value: object, name: str, words: Collection[str]) -> str:
    """One of `words`."""
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value in a message; a long one is cut, since a message is no place for a megabyte."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python turns into text
        return "an integer of thousands of digits"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _given(payload: Fields, name: str, default: Any = None) -> Any:
    value = payload.get(name, default)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def _within(name: str, value: float, low: float, high: float | None) -> None:
    if value < low or (high is not None and value > high) or value != value:  # the last is NaN alone
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {bounds}, not {shown(value)}")
