"""Durations as people write them on a command line or in a setting: 90s, 1h30m, 250ms."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def whole_ms(seconds: float) -> int:
    """Seconds of a limit as milliseconds, at least one: 0 would be none."""
    return max(round(seconds * 1000), 1)


def parse_duration(text: str) -> float:
    """Seconds of a duration with units; raises ValueError for a bare number or anything else."""
    text = text.strip()
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write a number with a unit, like 90s, 15m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
