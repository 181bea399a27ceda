"""Limits of time: `wait` (nobody took the task) and `total` (all attempts together).

`wait` runs from when the task is due until it is first taken; `total` from when it is first taken until it is done,
pauses between attempts included. A limit is a row that is written with a task that has one, and looked at when it may
be over. Neither a claim nor a report touches it: what became of the task by then is read from the task, and a row whose
time has not come after all is moved on. Edit and retry of a task begin its limits anew.

A waiting task that is over fails at once. The holder of a running one is told to stop in the usual order; its lease,
however it ends but for a success, then leads to `failed` with the reason (`ending.py`).

Rows hold wall time, which outlives the dispatcher. Where the clock jumps forward, what had begun before is put off by
as much (`jumps.py`): that time has not passed. After a jump back limits last longer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from common.durations import whole_ms
from dispatcher.model import FINAL, Deadline, State, TaskRow
from dispatcher.queue import options
from dispatcher.queue.ending import over_total
from dispatcher.queue.jumps import Jumps
from dispatcher.store.base import Tx

WAIT, TOTAL = "wait", "total"
LOOK_AGAIN_MS = 60_000  # at a task whose holder was told to stop


def begin(tx: Tx, tasks: Iterable[tuple[int, int, int, str | None]]) -> None:
    """Begin the limits of tasks, given as (id, generation, run_at, options)."""
    set_now = []
    for task_id, generation, run_at, text in tasks:
        limits = options.parse(text)
        for kind, seconds in ((WAIT, limits.wait_seconds), (TOTAL, limits.total_seconds)):
            if seconds is not None:
                length = whole_ms(seconds)
                set_now.append(Deadline(task_id, kind, generation, max(run_at, tx.now.wall) + length, length))
    tx.set_deadlines(set_now)


def begin_anew(tx: Tx, ids: Sequence[int]) -> None:
    """Tasks are in a new generation, perhaps with other options: drop the limits of the old one."""
    texts = tx.options(ids)
    old = [Deadline(i, kind, 0, 0, 0) for i in ids for kind in (WAIT, TOTAL)]
    tx.drop_deadlines(old)
    if texts:
        begin(tx, [(row.id, row.generation, row.run_at, texts.get(row.id)) for row in tx.tasks(ids).values()])


def go_on(tx: Tx, row: TaskRow) -> None:
    """An ended task is taken back: its `total` limit may have been dropped with its end, and is judged anew."""
    seconds = options.of(tx, [row.id])[row.id].total_seconds
    if seconds is not None:
        tx.set_deadlines([Deadline(row.id, TOTAL, row.generation, tx.now.wall, whole_ms(seconds))])


@dataclass(slots=True)
class Judged:
    """What is to be done about limits that came up."""

    drop: list[Deadline] = field(default_factory=list)
    move: list[Deadline] = field(default_factory=list)
    fail: dict[int, str] = field(default_factory=dict)
    stop: list[int] = field(default_factory=list)


def enforce(tx: Tx, limit: int, jumps: Jumps) -> tuple[int, list[TaskRow]]:
    """Look at limits that may be over: how many, and the rows of running tasks that are to be stopped."""
    due = tx.due_deadlines(limit)
    if not due:
        return 0, []
    rows = tx.tasks(sorted({deadline.task_id for deadline in due}))
    taken = tx.first_taken([(row.id, row.generation) for row in rows.values()])
    judged = Judged()
    for deadline in due:
        row = rows.get(deadline.task_id)
        if row is None or row.state in FINAL or row.generation != deadline.generation:
            judged.drop.append(deadline)
        elif deadline.kind == WAIT:
            _judge_wait(judged, deadline, row, row.id in taken, tx.now.wall)
        else:
            _judge_total(judged, deadline, row, _began(row, taken.get(row.id), jumps), tx.now.wall)
    tx.drop_deadlines(judged.drop)
    tx.set_deadlines(judged.move)
    tx.fail_waiting(judged.fail)
    return len(due), tx.request_cancel(judged.stop) if judged.stop else []


def _began(row: TaskRow, taken: int | None, jumps: Jumps) -> int | None:
    """When a task was first taken, by the leases that have ended and the one that lives. As the clock counts now."""
    moments = [taken, row.started_at if row.state == State.IN_PROGRESS else None]
    first = min((moment for moment in moments if moment is not None), default=None)
    return None if first is None else first + jumps.since(first)


def _judge_wait(judged: Judged, deadline: Deadline, row: TaskRow, taken: bool, now: int) -> None:
    if row.state == State.BLOCKED:  # nobody could take it yet
        judged.move.append(deadline._replace(at=now + deadline.length_ms))
        return
    judged.drop.append(deadline)
    if row.state == State.PENDING and not taken:
        judged.fail.setdefault(row.id, f"nobody took it within {deadline.length_ms / 1000:g} s (wait_seconds)")


def _judge_total(judged: Judged, deadline: Deadline, row: TaskRow, began: int | None, now: int) -> None:
    over_at = (now if began is None else began) + deadline.length_ms
    if over_at > now:
        judged.move.append(deadline._replace(at=over_at))
    elif row.state != State.IN_PROGRESS:
        judged.drop.append(deadline)
        judged.fail.setdefault(row.id, over_total(deadline.length_ms))
    elif row.cancel_requested_at is not None and not deadline.fired:
        judged.drop.append(deadline)  # it is being cancelled already
    else:
        judged.move.append(deadline._replace(at=now + LOOK_AGAIN_MS, fired=True))
        if not deadline.fired:
            judged.stop.append(row.id)
