"""Control over a task's life: cancel, retry, edit."""

from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.model import TaskRow
from dispatcher.store.base import Tx


def cancel(tx: Tx, ids: Sequence[int]) -> tuple[dict[int, str], list[TaskRow]]:
    """Cancel waiting tasks, ask the holders of running ones; a verdict for each id, and the rows that run."""
    known = tx.tasks(ids)
    cancelled = tx.close_waiting(ids)
    running = tx.request_cancel([task_id for task_id in known if task_id not in cancelled])
    asked = {row.id for row in running}
    return {task_id: _cancel_verdict(task_id, known, cancelled, asked) for task_id in ids}, running


def _cancel_verdict(task_id: int, known: Mapping[int, TaskRow], cancelled: set[int], asked: set[int]) -> str:
    if task_id not in known:
        return "not_found"
    if task_id in cancelled:
        return "cancelled"
    return "cancel_requested" if task_id in asked else "already_final"


def retry(tx: Tx, ids: Sequence[int]) -> dict[int, str]:
    """Run ended tasks again in a new generation; a verdict for each id."""
    known = tx.tasks(ids)
    restarted = tx.restart(ids)
    return {i: "retried" if i in restarted else "not_final" if i in known else "not_found" for i in ids}


def edit(tx: Tx, task_id: int, changes: Mapping[str, Any]) -> bool:
    """Change a waiting task in a new generation; False when it does not wait."""
    return tx.edit(task_id, changes)
