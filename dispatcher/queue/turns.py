"""Whose turn it is: how a claim is divided between queues, and what their limits and rates leave of it.

Between queues tasks are shared by weight; what one queue leaves goes to the others. The order of a remainder is drawn
by lot, in proportion, so that many small claims come out right without any memory.

A queue with a limit is looked at first, so that a claim which it gives nothing writes nothing (I10), and judged again
under its lock. Its rate is a bucket that holds a tenth of `rate_count` (or half a second's worth), at least one task,
and is refilled steadily: no stretch of `rate_ms` sees more than `rate_count` starts beyond what the bucket held.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dispatcher.errors import BacklogFull
from dispatcher.model import Grant, Granted, QueueSettings, QueueUse, TaskRow, chars_of
from dispatcher.store.base import Tx

UNLIMITED = 2**53


@dataclass(slots=True)
class Turn:
    """A queue that may give tasks: its eligible lanes, and how many tasks its limits leave."""

    queue: str
    lanes: list[int]
    settings: QueueSettings | None = None
    room: int = UNLIMITED

    @property
    def weight(self) -> int:
        """Its part beside other queues."""
        return self.settings.weight or 1 if self.settings else 1

    @property
    def limited(self) -> bool:
        """Whether its room must be looked up."""
        s = self.settings
        return s is not None and (s.max_running is not None or s.rate_count is not None)


def turns(tx: Tx, queues: Mapping[str, list[int]]) -> list[Turn]:
    """The queues among these that may give something now; only looks."""
    settings = tx.queue_settings() if queues else {}
    if not settings:
        return [Turn(name, lanes) for name, lanes in queues.items()]
    found = [Turn(name, lanes, settings.get(name)) for name, lanes in queues.items()]
    return [turn for turn in found if not _is_paused(turn) and (not turn.limited or _room(tx, turn, False) > 0)]


def take(tx: Tx, turns: Sequence[Turn], limit: int, grant: Grant, chars: int) -> list[Granted]:
    """Lease up to `limit` tasks of these queues, each its share by weight, until they fill so many characters."""
    for turn in sorted((turn for turn in turns if turn.limited), key=lambda turn: turn.queue):
        turn.room = _room(tx, turn, True)
    granted: list[Granted] = []
    left = [turn for turn in turns if turn.room > 0]
    while left and (missing := limit - len(granted)) > 0:
        wanted = [min(n, turn.room) for turn, n in zip(left, divided(missing, left), strict=True)]
        took = []
        for turn, n in zip(left, wanted, strict=True):
            took.append(tx.take(turn.lanes, n if chars > 0 else 0, grant, chars))
            chars -= chars_of(took[-1])
        granted += [task for tasks in took for task in tasks]
        for turn, tasks in zip(left, took, strict=True):
            _charge(tx, turn, len(tasks))
        given = zip(left, wanted, took, strict=True)
        left = [turn for turn, n, tasks in given if len(tasks) == n and turn.room > 0]
    return granted


def divided(n: int, turns: Sequence[Turn]) -> list[int]:
    """Shares of n by weight; the places that remain go by lot, in proportion to what was cut off."""
    if len(turns) == 1:
        return [n]
    total = sum(turn.weight for turn in turns)
    shares = [n * turn.weight // total for turn in turns]
    cut = [n * turn.weight % total for turn in turns]
    keys = [random.random() ** (total / part) if part else 0.0 for part in cut]  # noqa: S311  fairness, not a secret
    order = sorted(range(len(turns)), key=keys.__getitem__, reverse=True)
    for place in order[: n - sum(shares)]:
        shares[place] += 1
    return shares


def _is_paused(turn: Turn) -> bool:
    return turn.settings is not None and turn.settings.paused


def _room(tx: Tx, turn: Turn, lock: bool) -> int:
    """How many tasks a limited queue may start now."""
    use = tx.lock_queue(turn.queue) if lock else tx.look_at_queue(turn.queue)
    s = turn.settings
    if use is None or s is None:
        return 0
    room = UNLIMITED if s.max_running is None else s.max_running - use.running
    if s.rate_count is None or s.rate_ms is None:
        return room
    level = bucket_level(s, use, tx.now.steady)
    if level < s.rate_ms:  # none of them before then
        tx.wakes[turn.queue] = tx.now.steady + -(-(s.rate_ms - level) // s.rate_count)
    return min(room, level // s.rate_ms)


def _charge(tx: Tx, turn: Turn, n: int) -> None:
    turn.room -= n
    s = turn.settings
    if n and s is not None and s.rate_count is not None and s.rate_ms is not None:
        use = tx.look_at_queue(turn.queue)
        tx.spend(turn.queue, bucket_level(s, use, tx.now.steady) - n * s.rate_ms, tx.now.steady)
        tx.wakes[turn.queue] = tx.now.steady + -(-s.rate_ms // s.rate_count)


def bucket_level(s: QueueSettings, use: QueueUse, now: int) -> int:
    """What the bucket holds, where each task costs `rate_ms`; each millisecond adds `rate_count`."""
    assert s.rate is not None
    full = s.rate.burst * s.rate.ms
    if use.bucket is None or use.bucket_at is None:
        return full
    return min(full, use.bucket + max(0, now - use.bucket_at) * s.rate.starts)


def may_return(tx: Tx, row: TaskRow) -> bool:
    """Whether the limits allow a task to be in progress again by a lease that had ended."""
    lane = tx.lane_of(row.lane_id)
    settings = tx.queue_settings().get(lane.queue)
    if settings is not None and settings.max_running is not None:
        use = tx.lock_queue(lane.queue)
        if use is None or use.running >= settings.max_running:
            return False
    return not lane.keyed or tx.key_has_room(row.id)


def check_backlog(tx: Tx, queues: Iterable[str]) -> None:
    """Each name stands for one new task of that queue. Raises BacklogFull."""
    counted = Counter(queues)
    for queue, room in backlog_rooms(tx, counted).items():
        if counted[queue] > room:
            raise BacklogFull(queue, tx.queue_settings()[queue].max_waiting or 0)


def backlog_rooms(tx: Tx, queues: Iterable[str]) -> dict[str, int]:
    """How many tasks more may wait in those of the queues that have a limit; none while another dispatcher judges it.
    Locked in one order from here on."""
    settings, rooms = tx.queue_settings(), {}
    for queue in sorted(queues) if settings else ():
        found = settings.get(queue)
        if found is not None and found.max_waiting is not None:
            use = tx.lock_queue(queue)
            rooms[queue] = 0 if use is None else max(0, found.max_waiting - use.waiting)
    return rooms
