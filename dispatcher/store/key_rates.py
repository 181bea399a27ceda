"""Keys with a rate: so many tasks of a key may start in a stretch of time, exact with any number of dispatchers.

A key never has more ready tasks than may start by its rate now. Each start is charged to the key's bucket in the
transaction of its claim, so the two fall together; as the bucket fills, `wake_at` says when the next held task may be
let in. So no claim asks for a rate, and a task that is given back is held until its key is settled.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dispatcher.clock import Now
from dispatcher.model import Granted, Lane, QueueSettings, Rate
from dispatcher.store.touched import Name, Touched

MOST_AT_ONCE = 500  # let in, or held again, in one transaction for one key; `resettle_keys` goes on


class Bucket(NamedTuple):
    """The row of a key in key_rates: when its bucket is full (microseconds), and when the next held task may be let in
    (milliseconds; None: nothing waits for that). Both on the steady clock."""

    full_at: int = 0
    wake_at: int | None = None


class Line(NamedTuple):
    """How the tasks of a key stand: how many are ready, counted up to a number, and whether any is held."""

    ready: int
    held: bool


class KeyRates:
    """The part of a transaction that decides about rates of keys; each store brings the statements."""

    now: Now
    touched: Touched

    def queue_settings(self) -> Mapping[str, QueueSettings]:
        raise NotImplementedError

    def _lane_of(self, lane_id: int) -> Lane:
        raise NotImplementedError

    def _lock_keys(self, names: Sequence[Name]) -> None:
        raise NotImplementedError

    def _buckets(self, names: Sequence[Name]) -> Mapping[Name, Bucket]:
        raise NotImplementedError

    def _save_buckets(self, buckets: Mapping[Name, Bucket]) -> None:
        raise NotImplementedError

    def _drop_buckets(self, names: Sequence[Name]) -> None:
        raise NotImplementedError

    def _lines(self, names: Mapping[Name, int]) -> Mapping[Name, Line]:
        raise NotImplementedError

    def _due_names(self, limit: int) -> list[Name]:
        raise NotImplementedError

    def _key_rate(self, queue: str) -> Rate | None:
        settings = self.queue_settings().get(queue)
        return settings.key_rate if settings else None

    def _is_rated(self, lane_id: int) -> bool:
        """Whether the tasks of a lane have keys with a rate."""
        lane = self._lane_of(lane_id)
        return lane.keyed and self._key_rate(lane.queue) is not None

    def _note_starts(self, lane_id: int, granted: Sequence[Granted]) -> None:
        """Those of the tasks that are of this lane were leased: should their keys have a rate, it is charged later."""
        if self._is_rated(lane_id):
            self.touched.started(task.task_id for task in granted if task.lane.id == lane_id)

    def _rated(self, names: Sequence[Name], starts: Mapping[Name, int]) -> "Rated | None":
        """Those of the locked keys that have a rate, after these starts; None when there are none."""
        rates = {name: rate for name in names if (rate := self._key_rate(name[0])) is not None}
        if not rates:
            return None
        return Rated(self.now.steady, rates, starts, self._buckets(list(rates)), self._lines(_counted(rates)))

    def _save_rated(self, rated: "Rated", places: Mapping[Name, int], stale: bool) -> None:
        """Store what was charged, and when to look again at keys that have so many places left; `stale`: tasks were let
        in or held again meanwhile."""
        if stale:
            rated.lines = self._lines(_counted(rated.rates))
        changed = rated.changed(places)
        if changed:
            self._save_buckets(changed)

    def _wake_keys(self, limit: int) -> int:
        """See to the keys whose moment has come; how many."""
        names = self._due_names(limit)
        free = sorted(name for name in names if self._key_rate(name[0]) is None)
        if free:  # the rate was taken away
            self.touched.locked = True
            self._lock_keys(free)
            self._drop_buckets(free)
        self.touched.names(names)
        return len(names)


def _counted(rates: Mapping[Name, Rate]) -> dict[Name, int]:
    """Up to which number the ready tasks of each key are counted: more are held again step by step."""
    return {name: rate.burst + MOST_AT_ONCE for name, rate in rates.items()}


class Rated:
    """Locked keys that have a rate."""

    def __init__(
        self,
        now: int,
        rates: Mapping[Name, Rate],
        starts: Mapping[Name, int],
        known: Mapping[Name, Bucket],
        lines: Mapping[Name, Line],
    ) -> None:
        self.rates, self._now, self.lines = rates, now, lines
        self._known = {name: known.get(name, Bucket()) for name in rates}
        self._full_at = {name: rates[name].within(bucket.full_at, now) for name, bucket in self._known.items()}
        for name, n in starts.items():
            if name in rates:
                self._full_at[name] = rates[name].spent(self._full_at[name], now, n)

    def room(self, name: Name, most: int) -> int:
        """How many tasks of a key may be let in, at most so many; below zero: are too many."""
        if name not in self.rates:
            return most
        return min(most, self.rates[name].left(self._full_at[name], self._now) - self.lines[name].ready)

    def changed(self, places: Mapping[Name, int]) -> dict[Name, Bucket]:
        """The buckets that are to be stored, as the keys stand now."""
        buckets = {name: Bucket(full_at, self._wake_at(name, places[name], self.lines[name]))
                   for name, full_at in self._full_at.items()}  # fmt: skip
        return {name: bucket for name, bucket in buckets.items() if bucket != self._known[name]}

    def _wake_at(self, name: Name, places: int, line: Line) -> int | None:
        """Never, when something else will settle the key: the end of one that runs, or the start of one that is ready
        when the bucket holds no more than those."""
        rate, n = self.rates[name], line.ready + 1
        if not line.held or places <= 0 or n > rate.burst:
            return None
        return max(self._now + 1, rate.moment(self._full_at[name], n))
