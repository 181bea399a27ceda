"""Outcomes that the worker itself decides, without a child."""

from common import json_profile
from worker.model import Outcome, Task


def released(task: Task) -> Outcome:
    """Gives a lease back unharmed: its attempt is not counted."""
    fields = {"store_id": task.store_id, "task_id": task.task_id, "lease_id": task.lease_id, "status": "released"}
    return Outcome(task.lease_id, task.task_type, "released", json_profile.dump(fields), 0.0)
