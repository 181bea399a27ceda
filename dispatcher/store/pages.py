"""Reads for bulk actions and retention, the same on both stores: each of them short, whatever the size of the queue."""

from collections.abc import Sequence
from typing import Any

from dispatcher.model import State, TaskFilter
from dispatcher.store.views import selected

# a piece of the line of ids: no read is long however few of its tasks match
PIECE = "SELECT max(id) FROM (SELECT id FROM tasks WHERE id > {mark} ORDER BY id LIMIT {mark}) AS piece"
MATCHING = "SELECT t.id FROM tasks AS t JOIN lanes AS l ON l.id = t.lane_id"
TAGGED = "EXISTS (SELECT 1 FROM task_tags WHERE tag = {mark} AND task_id = t.id)"  # not all that carry it, each time
BETWEEN = "t.id > {mark} AND t.id <= {mark}"
IN_ORDER = "ORDER BY t.id LIMIT {mark}"
RETENTION = "SELECT queue, state, seconds FROM retention"
LANES = "SELECT DISTINCT l.id, l.queue FROM counts AS c JOIN lanes AS l ON l.id = c.lane_id WHERE c.state = {mark}"
HAS_OLD = """SELECT 1 FROM tasks WHERE state = {mark} AND lane_id = {mark} AND finished_at IS NOT NULL
    AND finished_at < {mark} LIMIT 1"""


class Pages:
    """The part of a reader that bulk actions and the pruner use."""

    MARK = "?"

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """The rows of a statement whose marks are written {mark}."""
        raise NotImplementedError

    def matching(self, wanted: TaskFilter, after: int, window: int, limit: int) -> tuple[list[int], int | None]:
        """Ids above `after` of tasks that match, in order, among the next `window` tasks; and the id from which to go
        on, None at the end."""
        upper = self._upper(wanted, after, window)
        if upper is None:
            return [], None
        where, values = selected(wanted, self.MARK)
        clauses = [where.removeprefix("WHERE "), *([TAGGED] if wanted.tag is not None else []), BETWEEN]
        values += [*([wanted.tag] if wanted.tag is not None else []), after, upper, limit]
        rows = self._rows(f"{MATCHING} WHERE {' AND '.join(filter(None, clauses))} {IN_ORDER}", values)
        ids = [row[0] for row in rows]
        return ids, (ids[-1] if len(ids) == limit else upper)

    def _upper(self, wanted: TaskFilter, after: int, window: int) -> int | None:
        if wanted.ids is not None:  # they are few already
            return max((task_id for task_id in wanted.ids if task_id > after), default=None)
        upper: int | None = self._rows(PIECE, (after, window))[0][0]
        return upper

    def retention(self) -> dict[tuple[str, State], int]:
        """How many seconds ended tasks are kept, by queue and state, as far as that was set."""
        return {(queue, State(state)): seconds for queue, state, seconds in self._rows(RETENTION, ())}

    def ended_lanes(self, state: State) -> list[tuple[int, str]]:
        """The lanes, with their queues, that may hold tasks which ended so."""
        return [(row[0], row[1]) for row in self._rows(LANES, (state.value,))]

    def has_old(self, state: State, lane_id: int, before: int) -> bool:
        """Whether a lane holds a task that ended so before that wall time."""
        return bool(self._rows(HAS_OLD, (state.value, lane_id, before)))
