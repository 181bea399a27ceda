"""Tasks that share a key: which of them may be ready, decided alike on both stores.

`active` tasks of a key are ready or leased, and never more than the queue's `key_running`; `held` ones are due and wait
for those; the rest is `idle` (not due, blocked, ended). A held task is not ready, so no claim ever meets it. What
becomes due with a key is held first. The keys that a transaction touched are settled once, at its end: all are locked
in one order, their active tasks are counted anew, and the best held ones are let in. Rates of keys: `key_rates.py`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dispatcher.model import NewTask, State
from dispatcher.store.key_rates import MOST_AT_ONCE, KeyRates
from dispatcher.store.touched import Name

ACTIVE, HELD, IDLE = "active", "held", "idle"
UNLIMITED = 2**53
NO_STARTS: Mapping[Name, int] = {}
STEP, FEW = 60, 10  # so many tasks change in a step of `resettle_keys`, about; so many keys are looked at together


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


class KeyRules(KeyRates):
    """The part of a transaction that decides about keys; each store brings the statements."""

    def _key_rows(self, ids: Sequence[int]) -> list[KeyRow]:
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
        return [t.key is not None and t.terms.run_at <= self.now.wall and self._is_held_first(t) for t in tasks]

    def _is_held_first(self, task: NewTask) -> bool:
        if task.key is None:
            return False
        queue = self._lane_of(task.terms.lane_id).queue
        return self._key_limit(queue) is not None or self._key_rate(queue) is not None

    def _key_limit(self, queue: str) -> int | None:
        settings = self.queue_settings().get(queue)
        return settings.key_running if settings else None

    def settle_keys(self) -> None:
        """Charge what started to its keys, and let in what the limits of the touched keys allow, best first."""
        ids, names, started = self.touched.take()
        if not ids and not names and not started:
            return
        rows = self._key_rows(sorted({*ids, *started}))
        starts = Counter(_count_by_name(rows, started))
        settled = set(ids)
        for row in rows:
            if row.task_id in settled:
                names.update(((row.queue, row.key), (row.queue_now, row.key)))
        self._lock({*names, *starts})
        self._save_key_rows([row for row in rows if _is_news(row)])
        self._balance(names, starts)

    def _lock(self, names: Collection[Name]) -> None:
        self.touched.locked = True
        self._lock_keys(sorted(names))

    def _balance(
        self, names: Collection[Name], starts: Mapping[Name, int] = NO_STARTS, most: int = MOST_AT_ONCE
    ) -> int:
        """Bring locked keys to their limits after these starts, or at most so many tasks of each nearer to it; how many
        tasks changed. A key of which tasks were only started gets nothing new here: this may be the end of the
        transaction, where nobody is served any more."""
        every = sorted({*names, *starts})
        places = self._places(every)
        rated = self._rated(every, starts)
        rooms = {name: rated.room(name, places[name]) if rated else places[name] for name in sorted(names)}
        free = [(*name, min(room, most)) for name, room in rooms.items() if room > 0]
        changed = sum(self._hold_again(name, min(-room, most)) for name, room in rooms.items() if room < 0)
        changed += self._admit(free) if free else 0
        if rated:
            filled = {(queue, key): room for queue, key, room in free}
            self._save_rated(rated, {name: n - filled.get(name, 0) for name, n in places.items()}, changed > 0)
        return changed

    def _places(self, names: Sequence[Name]) -> dict[Name, int]:
        """How many more tasks of each key may run; below zero: are too many."""
        limits = {name: self._key_limit(name[0]) for name in names}
        limited = [name for name, limit in limits.items() if limit is not None]
        active = self._count_active(limited) if limited else {}
        return {name: UNLIMITED if n is None else n - active.get(name, 0) for name, n in limits.items()}

    def key_has_room(self, task_id: int) -> bool:
        """Whether the key of a task allows it to be leased; its key stays locked."""
        self.settle_keys()  # what this transaction did to the key's other tasks counts
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
        self._lock([(queue, key) for key in keys])
        left = STEP
        for few in (keys[n : n + FEW] for n in range(0, len(keys), FEW)):
            while changed := self._balance([(queue, key) for key in few], most=STEP // FEW):
                left -= changed
                if left <= 0:
                    return after
            after = few[-1]
        return after


def _count_by_name(rows: Iterable[KeyRow], started: Iterable[int]) -> list[Name]:
    """The key of each start."""
    names = {row.task_id: (row.queue_now, row.key) for row in rows}
    return [names[task_id] for task_id in started if task_id in names]


def _is_news(row: KeyRow) -> bool:
    held_now = row.status_now() == HELD
    return row.status_now() != row.status or row.queue != row.queue_now or bool(row.held) != held_now or held_now
