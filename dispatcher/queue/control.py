"""Control over a task's life: cancel, retry, edit, delete."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.errors import NotFound, NotWaiting
from dispatcher.model import FINAL, State, TaskRow
from dispatcher.queue import deadlines, unique, webhooks
from dispatcher.queue.terms import Terms
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
    free, taken = unique.free_to_return(tx, [task_id for task_id, row in known.items() if row.state in FINAL])
    restarted = tx.restart(free)
    deadlines.begin_anew(tx, sorted(restarted))
    return {i: _retry_verdict(i, known, restarted, taken) for i in ids}


def _retry_verdict(task_id: int, known: Mapping[int, TaskRow], restarted: set[int], taken: set[int]) -> str:
    if task_id not in known:
        return "not_found"
    if task_id in taken:
        return "not_unique"
    return "retried" if task_id in restarted else "not_final"


def delete(tx: Tx, ids: Sequence[int], terms: Terms) -> dict[int, str]:
    """Delete ended tasks; a verdict for each id. Of one that ends in this very transaction it is told before."""
    known = tx.tasks(ids)
    if terms.webhooks and (just_ended := set(ids).intersection(tx.finished)):
        webhooks.note(tx, terms, just_ended)
    deleted = tx.delete(ids)
    return {i: "deleted" if i in deleted else "not_final" if i in known else "not_found" for i in ids}


def edit(tx: Tx, task_id: int, changes: Mapping[str, Any]) -> bool:
    """Change a waiting task in a new generation; False when it does not wait."""
    edited = tx.edit(task_id, changes)
    if edited:
        deadlines.begin_anew(tx, [task_id])
    return edited


@dataclass(frozen=True, slots=True)
class Edit:
    """What an edit changes: columns as they are stored, and what only the write can work out. None leaves alone."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    delay_ms: int | None = None
    tags: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # by their names; None takes one away


def change(tx: Tx, task_id: int, wanted: Edit) -> TaskRow:
    """Change a waiting task in a new generation; its new row. Raises NotFound and NotWaiting."""
    row = tx.tasks([task_id]).get(task_id)
    if row is None:
        raise NotFound(f"task {task_id}")
    if row.state not in (State.PENDING, State.BLOCKED):
        raise NotWaiting(task_id, row.state.value)
    changes = dict(wanted.columns)
    if wanted.delay_ms is not None:
        changes["run_at"] = tx.now.wall + wanted.delay_ms
    if wanted.queue is not None:
        lane = tx.lane_of(row.lane_id)
        changes["lane_id"] = tx.lane(wanted.queue, lane.task_type, lane.requires)
    if wanted.options:
        merged = {**json.loads(tx.options([task_id]).get(task_id, "{}")), **wanted.options}
        kept = {name: value for name, value in merged.items() if value is not None}
        changes["options"] = json.dumps(kept) if kept else None
    edit(tx, task_id, changes)
    if wanted.tags is not None:
        tx.retag(task_id, wanted.tags)
    return tx.tasks([task_id])[task_id]


def remove(tx: Tx, task_id: int, force: bool, terms: Terms) -> tuple[str, list[TaskRow]]:
    """Delete one task if it has ended; with `force` a waiting one is cancelled first, and a running one told to stop.
    The verdict, and the rows that run. Raises NotFound."""
    row = tx.tasks([task_id]).get(task_id)
    if row is None:
        raise NotFound(f"task {task_id}")
    running = cancel(tx, [task_id])[1] if force else []
    return delete(tx, [task_id], terms)[task_id], running
