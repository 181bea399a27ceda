"""The child's side of its line (see `line.py`). A child imports this module at its start: it must stay small."""

import json
import os
import struct
from typing import Any, NamedTuple

TEXT_BYTES = 64 * 1024  # of one packet; a text that is larger lies in a file
TICKET = struct.Struct(">I")


class Work(NamedTuple):
    """A task as its child gets it; `memory_mb` is its limit in MiB, or None."""

    number: int
    task_id: int
    task_type: str
    data: Any
    lease_id: str
    checkpoint: Any
    memory_mb: int | None


class WorkLine:
    """Takes tickets, and finds their tasks."""

    def __init__(self, texts: int, tickets: int) -> None:
        self._texts, self._tickets = texts, tickets
        self._group: dict[int, list[Any]] = {}

    def ticket(self) -> int | None:
        """The number of a task that is ours from now on, 0 when there will be no more; None when none waits."""
        try:
            return int.from_bytes(os.read(self._tickets, TICKET.size), "big")
        except BlockingIOError:
            return None

    def work(self, number: int) -> Work:
        """The task of this number. Its text was sent ahead of its ticket; those passed over were taken back."""
        while number not in self._group:
            self._group = {row[0]: row for row in json.loads(os.read(self._texts, TEXT_BYTES))}
        row = self._group.pop(number)
        if len(row) > len(("number", "file")):
            return Work._make(row)
        with open(row[1], "rb") as file:
            return Work._make(json.loads(file.read()))
