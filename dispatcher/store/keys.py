"""Tasks that share a key: which of them may be ready, decided alike on both stores.

`active` tasks of a key are ready or leased, and never more than the queue's `key_running`; `held` ones are due and wait
for those; the rest is `idle` (not due, blocked, ended). A held task is not ready, so no claim ever meets it. What
becomes due with a key is held first. The keys that a transaction touched are settled once, at its end: all are locked
in one order, their active tasks are counted anew, and the best held ones are let in.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dispatcher.clock import Now
from dispatcher.model import Lane, NewTask, QueueSettings, State

ACTIVE, HELD, IDLE = "active", "held", "idle"
MOST_AT_ONCE = 500  # let in, or held again, in one transaction for one key; `resettle_keys` goes on
Name = tuple[str, str]  # queue and key


class KeyRow(NamedTuple):
    """A task with a key: its row in task_keys, and how it stands now."""

    task_id: int
    queue: str
    key: str
    status: str
    queue_now: str
    state: str
    ready: int
    held: int
    priority: int
    run_at: int

    def status_now(self) -> str:
        """What it counts as from now on."""
        if self.state == State.IN_PROGRESS or self.ready:
            return ACTIVE
        return HELD if self.held and self.state == State.PENDING else IDLE


class Touched:
    """What a transaction did to tasks with keys and has not settled yet."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._names: list[Name] = []
        self._settled = (0, 0)
        self.locked = False

    def task(self, task_id: int) -> None:
        """A task with a key changed."""
        self._ids.append(task_id)

    def names(self, names: Iterable[Name]) -> None:
        """Keys got further held tasks."""
        self._names.extend(names)

    def take(self) -> tuple[list[int], set[Name]]:
        """What is to be settled now."""
        ids, names = self._settled
        self._settled = (len(self._ids), len(self._names))
        return sorted(set(self._ids[ids:])), set(self._names[names:])

    def mark(self) -> tuple[int, int, tuple[int, int]]:
        """A place to undo to."""
        return len(self._ids), len(self._names), self._settled

    def undo(self, mark: tuple[int, int, tuple[int, int]]) -> None:
        """Take back everything since the mark, what was settled, too."""
        del self._ids[mark[0] :], self._names[mark[1] :]
        self._settled = mark[2]

    def forget(self) -> None:
        """The transaction is over."""
        self._ids.clear()
        self._names.clear()
        self._settled, self.locked = (0, 0), False


class KeyRules:
    """The part of a transaction that decides about keys; each store brings the statements."""

    now: Now
    touched: Touched

    def queue_settings(self) -> Mapping[str, QueueSettings]:
        raise NotImplementedError

    def _lane_of(self, lane_id: int) -> Lane:
        raise NotImplementedError

    def _key_rows(self, ids: Sequence[int]) -> list[KeyRow]:
        raise NotImplementedError

    def _lock_keys(self, names: Sequence[Name]) -> None:
        raise NotImplementedError

    def _save_key_rows(self, rows: Sequence[KeyRow]) -> None:
        raise NotImplementedError

    def _count_active(self, names: Sequence[Name]) -> Mapping[Name, int]:
        raise NotImplementedError

    def _admit(self, rooms: Sequence[tuple[str, str, int]]) -> int:
        raise NotImplementedError

    def _hold_again(self, name: Name, n: int) -> int:
        raise NotImplementedError

    def _keys_after(self, queue: str, after: str, limit: int) -> list[str]:
        raise NotImplementedError

    def _touch(self, lane_id: int, task_id: int) -> None:
        """A task changed: should it have a key, then that is settled later."""
        if self._lane_of(lane_id).keyed:
            self.touched.task(task_id)

    def _touch_all(self, lane_id: int, rows: Sequence[Any]) -> None:
        """Those of the rows (id, lease, lane) changed that are of this lane."""
        if self._lane_of(lane_id).keyed:
            for row in rows:
                if row[2] == lane_id:
                    self.touched.task(row[0])

    def _held_first(self, tasks: Sequence[NewTask]) -> list[bool]:
        """Which of these new tasks are due and wait until their key is settled."""
        return [t.key is not None and t.run_at <= self.now.wall and self._is_held_first(t) for t in tasks]

    def _is_held_first(self, task: NewTask) -> bool:
        return task.key is not None and self._key_limit(self._lane_of(task.lane_id).queue) is not None

    def _key_limit(self, queue: str) -> int | None:
        settings = self.queue_settings().get(queue)
        return settings.key_running if settings else None

    def settle_keys(self) -> None:
        """Let in what the limits of the touched keys allow, best first."""
        ids, names = self.touched.take()
        if not ids and not names:
            return
        rows = self._key_rows(ids)
        names.update((row.queue, row.key) for row in rows)
        names.update((row.queue_now, row.key) for row in rows)
        self._lock(names)
        self._save_key_rows([row for row in rows if _is_news(row)])
        self._balance(names)

    def _lock(self, names: Collection[Name]) -> None:
        self.touched.locked = True
        self._lock_keys(sorted(names))

    def _balance(self, names: Collection[Name]) -> int:
        """Bring locked keys to their limits; how many tasks changed."""
        active = self._count_active(sorted(names))
        changed, rooms = 0, []
        for name in sorted(names):
            limit = self._key_limit(name[0])
            room = MOST_AT_ONCE if limit is None else limit - active.get(name, 0)
            if room > 0:
                rooms.append((*name, min(room, MOST_AT_ONCE)))
            elif room < 0:
                changed += self._hold_again(name, min(-room, MOST_AT_ONCE))
        return changed + (self._admit(rooms) if rooms else 0)

    def key_has_room(self, task_id: int) -> bool:
        """Whether the key of a task allows it to be leased; its key stays locked."""
        for row in self._key_rows([task_id]):
            name, limit = (row.queue_now, row.key), self._key_limit(row.queue_now)
            self._lock([name])
            if limit is not None and row.status != ACTIVE and self._count_active([name]).get(name, 0) >= limit:
                return False
        return True

    def resettle_keys(self, queue: str, after: str, limit: int) -> str | None:
        """Bring the next keys of a queue to its limit, in the order of their names; how far this came, None: done."""
        keys = self._keys_after(queue, after, limit)
        if not keys:
            return None
        names = {(queue, key) for key in keys}
        self._lock(names)
        return after if self._balance(names) >= MOST_AT_ONCE else keys[-1]


def _is_news(row: KeyRow) -> bool:
    held_now = row.status_now() == HELD
    return row.status_now() != row.status or row.queue != row.queue_now or bool(row.held) != held_now or held_now
