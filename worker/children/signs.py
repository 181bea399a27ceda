"""What a handler says by what it raises (`tasks/context.py`: Fail, Snooze), told by an attribute.

Handlers may stand in any folder, and import what they raise from there; a child imports nothing of theirs.
"""

LONGEST_SNOOZE = 10 * 365 * 86400


def snooze_seconds(error: BaseException) -> float | None:
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


def final_reason(error: BaseException) -> str | None:
    """Why no other attempt can succeed; None when one may."""
    if vars(error).get("taskmill_retry") is not False:
        return None
    return str(error) or type(error).__name__
