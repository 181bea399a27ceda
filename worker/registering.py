"""What a worker says of itself when it registers, with its first heartbeat and whenever it changes."""

import platform
from typing import Any

from worker.children.handlers import Probe
from worker.config import VERSION, WorkerSettings


def registration(settings: WorkerSettings, found: Probe) -> dict[str, Any]:
    """The block `register` of a heartbeat."""
    return {
        "task_types": found.types,
        "slots": found.slots,
        "defaults": found.defaults,
        "concurrency": settings.most,
        "queues": list(settings.worker_queues) or None,
        "labels": settings.labels(),
        "version": VERSION,
        "python": platform.python_version(),
    }
