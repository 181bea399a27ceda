"""Retention: how long ended tasks are kept, by the state in which they ended and by queue; and their end."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dispatcher.model import State
from dispatcher.queue.pace import STEP_PARTS, Pace, light
from dispatcher.store.base import Store, Tx

ANY = "*"  # stands for every queue that says nothing itself
Kept = Mapping[tuple[str, State], int]  # seconds


class Due(NamedTuple):
    """A lane with tasks that are over their time."""

    state: State
    lane_id: int
    before: int


def kept_ms(kept: Kept, queue: str, state: State, default_ms: int) -> int:
    """How long a queue's tasks that ended so are kept: its own word, then that for any queue, then the setting."""
    seconds = kept.get((queue, state), kept.get((ANY, state)))
    return default_ms if seconds is None else seconds * 1000


def keep(tx: Tx, queue: str, seconds: Mapping[State, int | None]) -> None:
    """Set how long a queue's ended tasks are kept; None forgets it."""
    for state, kept in seconds.items():
        tx.keep_for(queue, state, kept)


def due(store: Store, wall: int, defaults_ms: Mapping[State, int]) -> Iterator[Due]:
    """The lanes that hold something to prune. Only reads, so that it costs no claim anything."""
    with store.read() as reader:
        kept = reader.retention()
        lanes = [(state, *lane) for state in defaults_ms for lane in reader.ended_lanes(state)]
    for state, lane_id, queue in lanes:
        before = wall - kept_ms(kept, queue, state, defaults_ms[state])
        with store.read() as reader:
            found = reader.has_old(state, lane_id, before)
        if found:
            yield Due(state, lane_id, before)


def prune(tx: Tx, lane: Due, limit: int) -> int:
    """Delete some of the tasks that are over their time; how many."""
    ids = tx.old(lane.state, lane.lane_id, lane.before, limit)
    return len(tx.delete(light(tx, ids))) if ids else 0


def clear(lane: Due, pace: Pace) -> int:
    """One small write of pruning; how many tasks it deleted."""
    return pace.write(lambda tx: prune(tx, lane, pace.size))


def sweep(pace: Pace) -> int:
    """Drop a few parts of uploads that nothing refers to; 0 when there are none."""
    return pace.write(lambda tx: tx.sweep(STEP_PARTS))
