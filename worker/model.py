"""The data that flows through the worker: claim → supervisor → child → outbox → report."""

from pathlib import Path
from typing import Any, NamedTuple


class Task(NamedTuple):
    """One leased task as a claim brought it; `data` and `checkpoint` are parsed JSON."""

    store_id: str
    task_id: int
    task_type: str
    data: Any
    lease_id: str
    attempt: int
    timeout_seconds: float | None = None
    checkpoint: Any = None
    memory_mb: int | None = None  # MiB; None: the worker's own limit, if it has one
    cost: int = 1  # of the worker's slots


class Outcome(NamedTuple):
    """What one lease ended in. `body` is the whole outcome as JSON text, just as the report sends it.

    `spool` is the file with a result too large to be sent inside the report (see docs/protocol.md).
    """

    lease_id: str
    task_type: str
    status: str
    body: str
    run_seconds: float
    spool: Path | None = None
