"""The child's side of its line (see `line.py`). A child imports this module at its start: it must stay small."""

import json
import os
import select
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
        self._newest: dict[int, list[Any]] = {}  # of the packet read last
        self._group = self._newest  # all that tickets may come for, of those read
        self._poller = select.poll()
        for descriptor in (texts, tickets):
            self._poller.register(descriptor, select.POLLIN)

    def ticket(self) -> int | None:
        """The number of a task that is ours from now on, 0 when there will be no more; None when none waits."""
        try:
            return int.from_bytes(os.read(self._tickets, TICKET.size), "big")
        except BlockingIOError:
            return None

    def wait(self) -> None:
        """Called when no ticket waits: returns when one may. Texts are read as they come: unread they would fill the
        line when their tickets were taken back, and no ticket would come any more."""
        if any(descriptor == self._texts for descriptor, _ in self._poller.poll()):
            rows = self._read()
            self._group = {**self._newest, **rows}  # tickets of older packets came before this one, and are gone
            self._newest = rows

    def work(self, number: int) -> Work:
        """The task of this number. Its text was sent ahead of its ticket; those passed over were taken back."""
        while number not in self._group:
            self._group = self._newest = self._read()
        row = self._group.pop(number)
        if len(row) > len(("number", "file")):
            return Work._make(row)
        with open(row[1], "rb") as file:
            return Work._make(json.loads(file.read()))

    def _read(self) -> dict[int, list[Any]]:
        packet = os.read(self._texts, TEXT_BYTES)
        if not packet:  # the line has ended: the tickets will say so
            self._poller.unregister(self._texts)
            return {}
        return {row[0]: row for row in json.loads(packet)}
