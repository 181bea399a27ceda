"""Reads for people who look around and for live events, the same on both stores; each is short whatever the size."""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dispatcher.model import State

PAST = 2**62  # behind every id and every time
FROM = "FROM tasks AS t JOIN lanes AS l ON l.id = t.lane_id"
ERROR = "(SELECT error FROM ended_leases WHERE task_id = t.id ORDER BY id DESC LIMIT 1)"
SHORT_ERROR = ERROR.replace("SELECT error", "SELECT substr(error, 1, 2000)")  # thousands of them are read at once
LAST_TRIED_BY = """(SELECT w.worker_id FROM ended_leases AS e JOIN instances AS w ON w.id = e.instance
    WHERE e.task_id = t.id ORDER BY e.id DESC LIMIT 1)"""
SIGNS = f"""SELECT t.id, l.task_type, l.queue, t.state, t.attempts, t.max_attempts, t.generation, t.started_at,
    i.worker_id, p.note, p.done, p.total, o.log_next,
    CASE WHEN t.state IN ('failed', 'pending') THEN {SHORT_ERROR} END {FROM}
    LEFT JOIN instances AS i ON i.id = t.lease_instance
    LEFT JOIN progress AS p ON p.task_id = t.id
    LEFT JOIN task_output AS o ON o.task_id = t.id WHERE t.id IN"""
SIGN = ("task_id", "task_type", "queue", "status", "attempts", "max_attempts", "generation", "started_at",
        "assigned_to", "note", "done", "total", "log_next", "error")  # fmt: skip
LISTED = f"""SELECT t.id, l.task_type, l.queue, t.state, t.priority, t.attempts, t.max_attempts, t.created_at, t.run_at,
    t.started_at, t.finished_at, t.cancel_requested_at,
    CASE WHEN t.state = 'failed' THEN {LAST_TRIED_BY} ELSE i.worker_id END, d.data, d.tags, p.done, p.total, p.note,
    r.run_ms, CASE WHEN t.state IN ('failed', 'cancelled', 'pending') THEN {ERROR} END {FROM}
    JOIN task_data AS d ON d.task_id = t.id
    LEFT JOIN instances AS i ON i.id = t.lease_instance
    LEFT JOIN progress AS p ON p.task_id = t.id
    LEFT JOIN results AS r ON r.task_id = t.id WHERE t.id IN"""
ROW = ("task_id", "task_type", "queue", "status", "priority", "attempts", "max_attempts", "created_at", "run_at",
       "started_at", "finished_at", "cancel_requested_at", "worker_id", "data", "tags", "done", "total", "note",
       "run_ms", "error")  # fmt: skip
ENDED_SINCE = """SELECT t.id FROM tasks AS t WHERE t.state = {mark} AND t.lane_id = {mark}
    AND t.finished_at IS NOT NULL AND t.finished_at >= {mark} ORDER BY t.finished_at DESC LIMIT {mark}"""
ENDED_LANES = "SELECT DISTINCT state, lane_id FROM counts WHERE state IN ('completed', 'failed', 'cancelled')"
# the index by (state, lane, time of the end), from its end
ENDED = """SELECT finished_at, id FROM tasks WHERE state = {mark} AND lane_id = {mark} AND finished_at IS NOT NULL
    AND finished_at <= {mark} AND (finished_at < {mark} OR id < {mark})
    ORDER BY finished_at DESC, id DESC LIMIT {mark}"""
PIECE = "SELECT min(id), count(*) FROM (SELECT id FROM tasks WHERE id < {mark} ORDER BY id DESC LIMIT {mark}) AS piece"
TAG_PIECE = """SELECT min(task_id), count(*) FROM (SELECT task_id FROM task_tags WHERE tag = {mark} AND task_id < {mark}
    ORDER BY task_id DESC LIMIT {mark}) AS piece"""
WINDOW = "SELECT t.id FROM tasks AS t WHERE t.id < {mark} AND t.id >= {mark}"
TAGGED = "EXISTS (SELECT 1 FROM task_tags WHERE tag = {mark} AND task_id = t.id)"
# who runs it or completed it, and whose attempt counted and ended otherwise
TRIED_BY = """(t.lease_instance IN (SELECT id FROM instances WHERE worker_id = {mark}) OR EXISTS (
    SELECT 1 FROM ended_leases AS e JOIN instances AS w ON w.id = e.instance
    WHERE e.task_id = t.id AND e.charged AND w.worker_id = {mark}))"""
LEASED = "SELECT id FROM tasks WHERE lease_expires IS NOT NULL LIMIT {mark}"
WAITS = "SELECT id FROM tasks WHERE {which} LIMIT {mark}"
HISTORY = "SELECT at, data FROM history WHERE step = {mark} AND at >= {mark} ORDER BY at"
AT_ONCE = 500


class Ended(NamedTuple):
    """A place among ended tasks, the newest end first."""

    at: int
    task_id: int


class Sieve(NamedTuple):
    """What the database itself picks of a stretch of tasks; None picks all."""

    states: Sequence[State] | None = None
    lanes: Sequence[int] | None = None
    tag: str | None = None
    worker_id: str | None = None


class Browse:
    """The part of a reader that the dashboard and live events use."""

    READY, DUE_LATER = "ready = 1", "state = 'pending' AND ready = 0 AND held = 0"

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """The rows of a statement whose marks are written {mark}."""
        raise NotImplementedError

    def signs(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """How these tasks stand, without data and result."""
        return self._of_tasks(SIGNS, SIGN, ids)

    def listed(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """These tasks as a list shows them, with their data, in that order."""
        found = {row["task_id"]: row for row in self._of_tasks(LISTED, ROW, ids)}
        return [found[task_id] for task_id in ids if task_id in found]

    def _of_tasks(self, sql: str, names: Sequence[str], ids: Sequence[int]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            found += [dict(zip(names, row, strict=True)) for row in self._rows(f"{sql} ({_marks(some)})", some)]
        return found

    def ended_since(self, wall: int, limit: int = AT_ONCE) -> list[int]:
        """Tasks that ended since then, the newest of each lane."""
        lanes = self._rows(ENDED_LANES, ())
        return [row[0] for lane in lanes for row in self._rows(ENDED_SINCE, (*lane, wall, limit))]

    def newest_ended(self, state: State, lanes: Iterable[int], before: Ended | None, limit: int) -> list[Ended]:
        """The tasks of these lanes that ended so, the newest end first, behind a place."""
        at, task_id = before or Ended(PAST, PAST)
        each = (self._rows(ENDED, (state.value, lane, at, at, task_id, limit)) for lane in lanes)
        return [Ended(*row) for row in heapq.nlargest(limit, (tuple(row) for rows in each for row in rows))]

    def stretch(self, sieve: Sieve, below: int, size: int) -> tuple[list[int], int | None, int]:
        """Of the next `size` tasks below an id those that pass, the newest first; the lowest id that was looked at
        (None: there are no more), and how many were."""
        if sieve.tag is not None:
            lowest, looked = self._rows(TAG_PIECE, (sieve.tag, below, size))[0]
        else:
            lowest, looked = self._rows(PIECE, (below, size))[0]
        if lowest is None:
            return [], None, 0
        clauses, values = _picked(sieve)
        sql = " AND ".join([WINDOW, *clauses])
        rows = self._rows(f"{sql} ORDER BY t.id DESC", [below, lowest, *values])
        return [row[0] for row in rows], (lowest if looked == size else None), looked

    def few(self, state: State, most: int) -> list[int] | None:
        """All tasks that run, or that are pending, the newest first; None when there are more (or some that only a
        long look would find)."""
        if state == State.IN_PROGRESS:
            found = [row[0] for row in self._rows(LEASED, (most + 1,))]
        else:
            ways = (WAITS.replace("{which}", which) for which in (self.READY, self.DUE_LATER))
            found = [row[0] for way in ways for row in self._rows(way, (most + 1,))]
        return sorted(found, reverse=True) if len(found) <= most else None

    def lane_ids(self) -> list[tuple[int, str, str]]:
        """Every lane: id, queue, task type."""
        return [(row[0], row[1], row[2]) for row in self._rows("SELECT id, queue, task_type FROM lanes", ())]

    def history(self, step: int, since: int) -> list[tuple[int, str]]:
        """The stretches of time of all dispatchers since then."""
        return [(row[0], row[1]) for row in self._rows(HISTORY, (step, since))]


def _picked(sieve: Sieve) -> tuple[list[str], list[Any]]:
    clauses: list[str] = []
    values: list[Any] = []
    for column, among in (("t.state", sieve.states), ("t.lane_id", sieve.lanes)):
        if among is not None:
            clauses.append(f"{column} IN ({_marks(among)})" if among else "1 = 0")
            values += [one.value if isinstance(one, State) else one for one in among]
    for clause, value in ((TAGGED, sieve.tag), (TRIED_BY, sieve.worker_id)):
        if value is not None:
            clauses.append(clause)
            values += [value] * clause.count("{mark}")
    return clauses, values


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["{mark}"] * len(values))
