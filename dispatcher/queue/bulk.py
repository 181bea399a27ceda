"""Bulk control: cancel, retry or delete many tasks, by ids or by filter, as many small transactions.

What a filter finds is judged again under the lock of each write: a task that has changed meanwhile is left alone. So an
action may be broken off anywhere and asked for again; it goes on where it was, or from its cursor.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from dispatcher.errors import Invalid
from dispatcher.model import FINAL, State, TaskFilter, TaskRow
from dispatcher.queue import control
from dispatcher.queue.pace import Pace, light
from dispatcher.queue.terms import Terms
from dispatcher.store.base import Tx

if TYPE_CHECKING:
    from dispatcher.queue import Queue

WINDOW = 20_000  # tasks that one read looks at
PATIENCE_S = 10.0  # of one request: what is left then is for the next one
SHOWN = 20


class Action(str, Enum):
    """What can be done to many tasks."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


OPEN = frozenset({State.BLOCKED, State.PENDING, State.IN_PROGRESS})
POSSIBLE = {Action.CANCEL: OPEN, Action.RETRY: FINAL, Action.DELETE: FINAL}
# without a status in its filter, a retry leaves alone what has completed
MEANT = {**POSSIBLE, Action.RETRY: FINAL - {State.COMPLETED}}
CHANGED = frozenset({"cancelled", "cancel_requested", "retried", "deleted"})


@dataclass(frozen=True, slots=True)
class Order:
    """An action on what the filter selects, from the tasks above `after` on."""

    action: Action
    wanted: TaskFilter
    dry_run: bool = False
    after: int = 0


@dataclass(slots=True)
class Done:
    """What became of an order; `cursor` is where to go on, None when everything is done."""

    matched: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    each: dict[int, str] = field(default_factory=dict)  # of tasks named by their ids
    sample: list[int] = field(default_factory=list)
    cursor: int | None = None

    @property
    def changed(self) -> int:
        """How many tasks are not as they were."""
        return sum(n for verdict, n in self.verdicts.items() if verdict in CHANGED)

    def note(self, verdicts: dict[int, str]) -> None:
        """Count a batch."""
        self.matched += sum(verdict != "not_found" for verdict in verdicts.values())
        self.verdicts.update(verdicts.values())
        self._show([i for i, verdict in verdicts.items() if verdict in CHANGED])

    def found(self, ids: Sequence[int]) -> None:
        """Count what a dry run would change."""
        self.matched += len(ids)
        self._show(ids)

    def _show(self, ids: Sequence[int]) -> None:
        self.sample += ids[: SHOWN - len(self.sample)]


class Batch(NamedTuple):
    """A verdict for each task that was judged, what is left for the next write, and the tasks that run."""

    verdicts: dict[int, str]
    left: list[int]
    running: list[TaskRow]


def filled(order: Order) -> Order:
    """The order with the states that it means. Raises Invalid for a state that the action cannot change."""
    state, action = order.wanted.state, order.action
    if state is not None and state not in POSSIBLE[action]:
        raise Invalid("filter.status", f"a task that is {state.value} cannot be changed by {action.value}")
    states = MEANT[action] if order.wanted.ids is None else POSSIBLE[action]
    return order if state else replace(order, wanted=replace(order.wanted, states=tuple(sorted(states))))


def run(queue: "Queue", order: Order, patience_s: float = PATIENCE_S) -> Done:
    """Carry out an order, as far as that goes in `patience_s`."""
    order, done, deadline = filled(order), Done(), time.monotonic() + patience_s
    if order.wanted.ids is not None and not order.dry_run:
        _each(queue, order, list(order.wanted.ids), done)
        return done
    pace, after = Pace(queue.store), order.after
    while True:
        with queue.store.read() as reader:
            ids, further = reader.matching(order.wanted, after, WINDOW, WINDOW if order.dry_run else pace.size)
        if order.dry_run:
            done.found(ids)
        elif ids:
            done.note(_write(queue, order, ids, pace))
        if further is None:
            return done
        after = further
        if time.monotonic() > deadline or queue.draining:
            done.cursor = after
            return done


def _each(queue: "Queue", order: Order, ids: list[int], done: Done) -> None:
    """Tasks by their ids: every id gets a verdict."""
    pace, order = Pace(queue.store), replace(order, wanted=TaskFilter())
    while ids:
        batch, ids = ids[: pace.size], ids[pace.size :]
        verdicts = _write(queue, order, batch, pace)
        done.each.update(verdicts)
        done.note(verdicts)


def _write(queue: "Queue", order: Order, ids: list[int], pace: Pace) -> dict[int, str]:
    """Judge these tasks, in one write unless much data lies with them."""
    verdicts: dict[int, str] = {}
    while ids:
        batch = pace.write(lambda tx, ids=ids: judge(tx, order, ids, queue.terms))  # type: ignore[misc]
        queue.stop_waiting(batch.running)
        verdicts |= batch.verdicts
        ids = batch.left
    return verdicts


def judge(tx: Tx, order: Order, ids: list[int], terms: Terms) -> Batch:
    """One write: those of the tasks that (still) match are changed."""
    matching = _still(tx, order.wanted, ids)
    if order.action == Action.CANCEL:
        verdicts, running = control.cancel(tx, matching)
        return Batch(verdicts, [], running)
    now = light(tx, matching)
    verdicts = control.retry(tx, now) if order.action == Action.RETRY else control.delete(tx, now, terms)
    return Batch(verdicts, matching[len(now) :], [])


def _still(tx: Tx, wanted: TaskFilter, ids: list[int]) -> list[int]:
    """Those that match under their locks; without any condition all, known or not."""
    if wanted == TaskFilter():
        return ids
    rows = tx.tasks(ids)
    tagged = set(ids) if wanted.tag is None else tx.tagged(ids, wanted.tag)
    return [i for i in ids if i in rows and i in tagged and _matches(tx, wanted, rows[i])]


def _matches(tx: Tx, wanted: TaskFilter, row: TaskRow) -> bool:
    lane, at = tx.lane_of(row.lane_id), row.finished_at or row.created_at
    return (
        (wanted.state is None or row.state == wanted.state)
        and (wanted.states is None or row.state in wanted.states)
        and (wanted.queue is None or lane.queue == wanted.queue)
        and (wanted.task_type is None or lane.task_type == wanted.task_type)
        and (wanted.before is None or at < wanted.before)
        and (wanted.since is None or at >= wanted.since)
    )
