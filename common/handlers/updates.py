"""What a handler may tell of itself while it runs, checked and as JSON text. A child imports this at its start."""

from typing import Any

from common.handlers.texts import clean
from common.json_profile import JsonError, dump

CHECKPOINT_BYTES = 1024 * 1024
PARTIAL_BYTES = 64 * 1024
NOTE_BYTES = 1024


def progress(done: float, total: float | None, note: str) -> dict[str, str]:
    """The parts `progress` and, if there is one, `note`; raises JsonError for what is not a finite number."""
    parts = {"progress": dump({"done": _number(done), "total": None if total is None else _number(total)})}
    if note:
        parts["note"] = dump(clean(note, NOTE_BYTES))
    return parts


def checkpoint(state: Any) -> str:
    """Raises ValueError for what is no JSON, or over 1 MiB."""
    return _bounded(dump(state), CHECKPOINT_BYTES, "a checkpoint")


def partial(value: Any) -> str:
    """Raises ValueError for what is no JSON, or over 64 KiB."""
    return _bounded(dump(value), PARTIAL_BYTES, "a partial result")


def _bounded(text: str, limit: int, what: str) -> str:
    if len(text) > limit or len(text.encode()) > limit:
        raise ValueError(f"{what} of {len(text)} characters is over the limit of {limit} bytes")
    return text


def _number(value: Any) -> float:
    """A number that the dispatcher can keep; what it refused would take all leases of this worker with it."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise JsonError(f"progress is told in numbers, not in {type(value).__name__}")
    try:
        exact = float(value)
    except OverflowError:
        raise JsonError("progress is out of range: its numbers are at most 1e308") from None
    return value if isinstance(value, (int, float)) else exact
