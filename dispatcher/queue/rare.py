"""Pages of tasks in a state that few are in: found by the index that holds those, not by a look at every task."""

import heapq
from dataclasses import replace

from dispatcher.model import FINAL, State, TaskFilter
from dispatcher.store.base import Reader

RARE = 20_000  # of 10 million tasks; where there are more, a page is soon full
FEW = 5_000  # ids of one statement


def narrowed(reader: Reader, wanted: TaskFilter, after: int | None, limit: int) -> TaskFilter:
    """The same filter, as far as that helps with the ids among which the page is."""
    state = wanted.state
    if state is None or wanted != TaskFilter(state, wanted.queue, wanted.task_type):
        return wanted
    counts = {lane: n.get(state.value, 0) for lane, n in reader.counts().items()}
    if sum(n for lane, n in counts.items() if _within(lane, wanted)) > RARE:
        return wanted
    ids = _ended(reader, state, wanted) if state in FINAL else _open(reader, state, sum(counts.values()))
    if ids is None:
        return wanted
    below = [task_id for task_id in ids if after is None or task_id < after]
    return replace(wanted, ids=tuple(heapq.nlargest(limit, below) if state in FINAL else below))


def _ended(reader: Reader, state: State, wanted: TaskFilter) -> list[int]:
    lanes = [lane for lane, *names in reader.lane_ids() if _within((names[0], names[1]), wanted)]
    return [one.task_id for one in reader.newest_ended(state, lanes, None, RARE)]


def _open(reader: Reader, state: State, total: int) -> list[int] | None:
    """Those of all lanes; None when an index does not hold them all (what a key holds, what is blocked)."""
    ids = reader.few(state, FEW) if total and state != State.BLOCKED else []
    return ids if ids is not None and len(ids) >= total else None


def _within(lane: tuple[str, str], wanted: TaskFilter) -> bool:
    """Whether a lane, (queue, task type), is one of those that are asked for."""
    return wanted.queue in (None, lane[0]) and wanted.task_type in (None, lane[1])
