"""The lines that a handler logs: numbered, so that none is stored twice, and bounded wherever they are kept.

A part of a log is `{"from": the number of its first line, "lines": [...]}`, as heartbeats carry it. A child imports
this module at its start: it must stay small.
"""

from typing import Any

from common.handlers.loglines import LINES, last
from common.handlers.texts import clean

LINE_BYTES = 4 * 1024


class TaskLog:
    """The lines of one attempt: those that were not sent yet, and the last ones of all."""

    def __init__(self) -> None:
        self.pending: list[str] = []
        self._tail: list[str] = []
        self._next = 0  # the number of the next line

    def add(self, text: str) -> None:
        """Take in what a handler said, perhaps several lines; an empty text is none."""
        said = text.splitlines()
        self._next += len(said)
        lines = [clean(line, LINE_BYTES) for line in said[-LINES:]]
        for kept in (self.pending, self._tail):
            kept += lines
            del kept[:-LINES]

    def take(self) -> dict[str, Any]:
        """What is pending, as a part of the log."""
        lines, self.pending = last(self.pending), []
        return self._part(lines)

    def whole(self) -> dict[str, Any] | None:
        """All that may be kept of it; None when there is nothing."""
        return self._part(last(self._tail)) if self._tail else None

    def _part(self, lines: list[str]) -> dict[str, Any]:
        return {"from": self._next - len(lines), "lines": lines}


def joined(older: Any, newer: Any) -> dict[str, Any]:
    """Two parts of one log as one; of what is over the bounds the older lines go."""
    after = newer["from"] + len(newer["lines"])
    lines = last([*older["lines"], *newer["lines"]])
    return {"from": max(0, after - len(lines)), "lines": lines}
