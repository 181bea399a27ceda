"""What a handler says by what it raises (`tasks/context.py`: Fail, Snooze), told by an attribute.

Handlers may stand in any folder, and import what they raise from there; a child imports nothing of theirs.
"""

from typing import NamedTuple

from common.handlers.texts import explained

LONGEST_SNOOZE = 10 * 365 * 86400


class Raised(NamedTuple):
    """How an attempt ended by an exception: it asks to be run later (seconds), or it failed, perhaps for good."""

    snooze: float | None
    error: str
    retry: bool


def raised(error: BaseException, prefix: str = "") -> Raised:
    """What an exception of a handler means; `prefix` goes before its text."""
    try:
        snooze = _snooze_seconds(error)
    except ValueError as wrong:
        return Raised(None, explained(wrong), retry=True)
    if snooze is not None:
        return Raised(snooze, "", retry=True)
    reason = _final_reason(error)
    return Raised(None, prefix + explained(error, reason or ""), retry=reason is None)


def _snooze_seconds(error: BaseException) -> float | None:
    """After how many seconds the handler asks to be run again; None when it does not. Raises ValueError."""
    told = vars(error).get("taskmill_snooze")
    if told is None:
        return None
    if isinstance(told, str):
        from common.durations import parse_duration  # here: few handlers snooze

        told = parse_duration(told)
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not 0 <= told <= LONGEST_SNOOZE:
        raise ValueError(f"Snooze({told!r}): give seconds, or text with a unit like '90s', up to ten years")
    return float(told)


def _final_reason(error: BaseException) -> str | None:
    """Why no other attempt can succeed; None when one may."""
    if vars(error).get("taskmill_retry") is not False:
        return None
    return str(error) or type(error).__name__
