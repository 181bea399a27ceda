"""Is it the task or the worker? After a failure on one worker a retry prefers another.

*A task*: while another worker is around that could take it, the one on which it failed leaves it alone for a few
seconds after it became ready. That is a preference, not a right, so it lives in the memory of the dispatcher to which
the worker talks; a farm of one worker loses no time by it.

*A type*: a worker on which several different tasks of one type failed in a row, while others succeeded with that type,
gets no more of it. That stands in the store (`blames`), is shown, and is taken back by an operator. A failure that the
handler itself called final (`retry: false`) speaks of the task, not of the worker.

Everything here is looked at in each claim; while there is nothing to blame it is two look-ups in empty dicts.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dispatcher.model import Lane, TaskRow
from dispatcher.store.base import Tx

if TYPE_CHECKING:
    from dispatcher.queue.claim import Claim

log = logging.getLogger("taskmill.blame")
SPARE_MS = 5_000  # after it became ready
AROUND_MS = 60_000  # a worker that claimed within this time is around; waiting claims come at least every 50 s
IN_A_ROW = 3
MOST_SPARED = 200  # tasks of a worker
MOST_KNOWN = 10_000  # workers, rows of failures
LOOK_MS = 1_000
NO_TASKS: frozenset[int] = frozenset()
NO_TYPES: frozenset[str] = frozenset()


class Failure(NamedTuple):
    """An attempt that failed and will be repeated, or not; `run_at` is when, None when not."""

    row: TaskRow
    run_at: int | None


class _Spared(NamedTuple):
    until: int
    lane: Lane


@dataclass(slots=True)
class _Streak:
    since: int
    tasks: set[int] = field(default_factory=set)
    looked_at: int = -LOOK_MS  # in the store


class Blame:
    """What this dispatcher knows of failures; safe for all threads."""

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self._lock = threading.Lock()
        self._types: dict[str, frozenset[str]] = {}
        self._spared: dict[str, dict[int, _Spared]] = {}
        self._streaks: dict[tuple[str, str], _Streak] = {}
        self._around: dict[str, tuple[int, Claim]] = {}
        self.stale = False  # the store knows more
        self.learn(rows)

    # looked at in each claim
    def types(self, worker_id: str) -> frozenset[str]:
        """The types that this worker does not get."""
        return self._types.get(worker_id, NO_TYPES)

    def tasks(self, worker_id: str, wall: int) -> frozenset[int]:
        """The tasks that this worker shall leave to others now."""
        spared = self._spared.get(worker_id)
        if not spared:
            return NO_TASKS
        with self._lock:
            return frozenset(i for i, s in spared.items() if s.until > wall and self._has_others(worker_id, s, wall))

    def seen(self, asked: "Claim", wall: int) -> None:
        """A worker claims: it is around."""
        with self._lock:
            self._around.pop(asked.worker_id, None)
            self._around[asked.worker_id] = wall, asked
            if len(self._around) > MOST_KNOWN:
                del self._around[next(iter(self._around))]

    def _has_others(self, worker_id: str, spared: _Spared, wall: int) -> bool:
        return any(
            name != worker_id and at > wall - AROUND_MS and asked.fits(spared.lane, self.types(name))
            for name, (at, asked) in reversed(self._around.items())
        )

    # what happens
    def failed(self, tx: Tx, worker_id: str, failures: Sequence[Failure]) -> None:
        """Attempts failed on this worker (an operation may say so twice)."""
        for row, run_at in failures:
            lane = tx.lane_of(row.lane_id)
            if run_at is not None:
                self._spare(worker_id, row.id, _Spared(max(run_at, tx.now.wall) + SPARE_MS, lane))
            since = self._count(worker_id, lane, row.id, tx.now.wall)
            if since is not None and lane.task_type not in self.types(worker_id):
                self._judge(tx, worker_id, lane.task_type, since)

    def _spare(self, worker_id: str, task_id: int, spared: _Spared) -> None:
        with self._lock:
            mine = self._spared.setdefault(worker_id, {})
            mine.pop(task_id, None)
            mine[task_id] = spared
            if len(mine) > MOST_SPARED:
                del mine[next(iter(mine))]

    def _count(self, worker_id: str, lane: Lane, task_id: int, wall: int) -> int | None:
        """Since when different tasks failed here, when they are enough to look into it, at most once a second."""
        with self._lock:
            streak = self._streaks.setdefault((worker_id, lane.task_type), _Streak(wall))
            if len(streak.tasks) < IN_A_ROW:
                streak.tasks.add(task_id)
            if len(self._streaks) > MOST_KNOWN:
                del self._streaks[next(iter(self._streaks))]
            if len(streak.tasks) < IN_A_ROW or wall - streak.looked_at < LOOK_MS:
                return None
            streak.looked_at = wall
            return streak.since

    def _judge(self, tx: Tx, worker_id: str, task_type: str, since: int) -> None:
        """What did this worker and others do with the type since the first of these failures?"""
        winners = tx.succeeded_with(task_type, since)
        if worker_id in winners:  # not one after the other
            self.forget(worker_id, task_type)
        elif winners:
            reason = f"{IN_A_ROW} tasks of type {task_type} failed here in a row, others succeed with it"
            tx.blame(worker_id, task_type, reason)
            self.stale = True  # even if it stood there already: this dispatcher does not know it

    def forget(self, worker_id: str, task_type: str | None) -> None:
        """Begin to count anew."""
        with self._lock:
            for key in [k for k in self._streaks if k[0] == worker_id and task_type in (None, k[1])]:
                del self._streaks[key]

    def learn(self, rows: Iterable[dict[str, Any]]) -> bool:
        """Take over what the store says; whether some worker gets a type again."""
        types: dict[str, set[str]] = {}
        for row in rows:
            types.setdefault(row["worker_id"], set()).add(row["task_type"])
            if row["task_type"] not in self.types(row["worker_id"]):
                log.warning("%s gets no more tasks of type %s: %s", row["worker_id"], row["task_type"], row["reason"])
        old, self._types = self._types, {name: frozenset(found) for name, found in types.items()}
        freed = {name: left for name, known in old.items() if (left := known - self.types(name))}
        for name, left in freed.items():
            log.info("%s gets tasks of type %s again", name, ", ".join(sorted(left)))
            for task_type in left:
                self.forget(name, task_type)
        return bool(freed)

    def lapse(self, wall: int) -> bool:
        """Forget tasks that were spared for long enough; whether there were any."""
        if not self._spared:
            return False
        with self._lock:
            before = sum(map(len, self._spared.values()))
            kept = {name: {i: s for i, s in mine.items() if s.until > wall} for name, mine in self._spared.items()}
            self._spared = {name: mine for name, mine in kept.items() if mine}
            return sum(map(len, self._spared.values())) < before


NOBODY = Blame()
