"""What was done to a farm and what it did: operations as their senders saw them, executions as the ledger has them.

All times are of the machine's one monotonic clock, in nanoseconds.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from client import TransportError

PENDING, OK, UNSURE = "pending", "ok", "unsure"


@dataclass
class Operation:
    """One call: `unsure` when no answer came, so that it may have been done or not."""

    kind: str
    value: Any
    began: int
    ended: int = 0
    outcome: str = PENDING
    answer: Any = None


@dataclass
class History:
    """All operations in the order of their beginnings; safe for many threads."""

    operations: list[Operation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def operation(self, kind: str, value: Any) -> Iterator[Operation]:
        """Notes a call; a TransportError leaves it unsure, and that is all."""
        one = Operation(kind, value, time.monotonic_ns())
        with self._lock:
            self.operations.append(one)
        try:
            yield one
            one.outcome = OK
        except TransportError as error:
            one.outcome, one.answer = UNSURE, str(error)
        finally:
            one.ended = time.monotonic_ns()

    def of(self, kind: str, outcome: str | None = None) -> list[Operation]:
        """The operations of a kind (with an outcome)."""
        with self._lock:
            return [one for one in self.operations if one.kind == kind and outcome in (None, one.outcome)]


class Execution(NamedTuple):
    """One run of a handler; `ended` is None when it was cut off."""

    task_id: int
    number: int
    run: str
    pid: int
    worker_pid: int
    started: int
    ended: int | None


class Ledger:
    """The file in which the handlers write down what they execute; each read goes on where the last one ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._found: dict[str, Execution] = {}
        self._lock = threading.Lock()

    def read(self) -> list[Execution]:
        """All executions so far, in the order of their starts."""
        with self._lock:
            for line in self._new_lines():
                word, task_id, number, run, pid, worker_pid, at = line.split()
                if word == "start":
                    one = Execution(int(task_id), int(number), run, int(pid), int(worker_pid), int(at), None)
                else:
                    one = self._found[run]._replace(ended=int(at))
                self._found[run] = one
            return list(self._found.values())

    def _new_lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open() as file:
            file.seek(self._offset)
            lines = file.read().splitlines()
            self._offset = file.tell()
        return lines
