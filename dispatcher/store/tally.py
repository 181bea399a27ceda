"""What both stores keep in step: the counts beside the states, and the rows that go with a task."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from dispatcher.model import FINAL, Granted, State, TaskRow

READY = "ready"  # counted beside the states
# the tables whose rows belong to one task and go with it, found by its id; beside them its tags, and its uploads, which
# go piece by piece (`results.py`)
OWN_ROWS = (
    "task_data",
    "task_keys",
    "results",
    "progress",
    "task_output",
    "ended_leases",
    "unique_keys",
    "deadlines",
)
FINAL_NAMES = frozenset(state.value for state in FINAL)


def ends_in(journal: Iterable[tuple[int, str, int]]) -> Counter[str]:
    """How many tasks came to each final state by changes of counts: (lane, state, by how much)."""
    ends: Counter[str] = Counter()
    for _, state, n in journal:
        if n > 0 and state in FINAL_NAMES:
            ends[state] += n
    return ends


class Tally:
    """The part of a transaction that counts a task over when it changes its state."""

    counts: Any  # each store has a kind of its own, with the same `add` and `move`
    finished: list[int]

    def _touch(self, lane_id: int, task_id: int) -> None:
        """A task changed that may have a key (`keys.py`)."""
        raise NotImplementedError

    def _is_rated(self, lane_id: int) -> bool:
        """Whether the tasks of a lane have keys with a rate."""
        raise NotImplementedError

    def _note_starts(self, lane_id: int, granted: Sequence[Granted]) -> None:
        """Those of the tasks that are of this lane were leased: should their keys have a rate, it is charged later."""
        raise NotImplementedError

    def _leave(self, row: TaskRow, new: State) -> None:
        """Count a task over from its row's state to another (never to ready)."""
        self._touch(row.lane_id, row.id)
        self.counts.move(row.lane_id, row.state.value, new.value)
        if row.ready:
            self.counts.add(row.lane_id, READY, -1)
        if new in FINAL:
            self.finished.append(row.id)
