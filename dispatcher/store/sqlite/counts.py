"""Lanes and counts in memory, mirrored in the tables by the transactions that change them.

The writer is the only one who changes them, so memory is the truth within a transaction; a journal undoes what an
operation did when it fails, and `flush` writes the changed numbers once a transaction.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection

import apsw

from dispatcher.model import Lane, State
from dispatcher.store.tally import READY, ends_in


class Counts:
    """How many tasks of each lane are in each state, and the lanes themselves."""

    def __init__(self, db: apsw.Connection) -> None:
        rows = db.execute("SELECT id, queue, task_type, requires FROM lanes")
        self.lanes = {row[0]: Lane(row[0], row[1], row[2], tuple(json.loads(row[3]))) for row in rows}
        self._lane_ids = {lane[1:]: lane.id for lane in self.lanes.values()}
        self._n: dict[tuple[int, str], int] = defaultdict(int)
        self._n.update({(row[0], row[1]): row[2] for row in db.execute("SELECT lane_id, state, n FROM counts")})
        self._changed: set[tuple[int, str]] = set()
        self._journal: list[tuple[int, str, int]] = []
        self._fresh: set[int] = set()
        self._ready = {lane_id for (lane_id, state), n in self._n.items() if state == READY and n}

    def lane_id(self, db: apsw.Connection, queue: str, task_type: str, requires: tuple[str, ...]) -> int:
        """The id of a lane, made when it is new."""
        known = self._lane_ids.get((queue, task_type, requires))
        return known if known is not None else self._new_lane(db, queue, task_type, requires)

    def _new_lane(self, db: apsw.Connection, queue: str, task_type: str, requires: tuple[str, ...]) -> int:
        sql = "INSERT INTO lanes (queue, task_type, requires) VALUES (?, ?, ?) RETURNING id"
        lane_id = int(db.execute(sql, (queue, task_type, json.dumps(requires))).get)
        self.lanes[lane_id] = Lane(lane_id, queue, task_type, requires)
        self._lane_ids[(queue, task_type, requires)] = lane_id
        self._journal.append((lane_id, "", 0))
        return lane_id

    def get(self, lane_id: int, state: str) -> int:
        """The present number."""
        return self._n[(lane_id, state)]

    def ready_lanes(self) -> list[Lane]:
        """Lanes with something to take."""
        return [self.lanes[lane_id] for lane_id in self._ready]

    def fresh_lanes(self, limited: Collection[str]) -> list[Lane]:
        """Lanes that gained ready tasks since the transaction began, and still have some; and those of the limited
        queues, which run only so many tasks, in which some ended."""
        if limited:
            running = State.IN_PROGRESS.value
            for queue in {self.lanes[i].queue for i, state, n in self._journal if n < 0 and state == running}:
                if queue in limited:
                    self.freshen(queue)
        return [self.lanes[lane_id] for lane_id in self._fresh if self._n[(lane_id, READY)]] if self._fresh else []

    def freshen(self, queue: str) -> None:
        """Count a queue's ready lanes among the fresh ones."""
        self._fresh.update(lane_id for lane_id in self._ready if self.lanes[lane_id].queue == queue)

    def of_queue(self, queue: str, state: str) -> int:
        """The present number of a whole queue."""
        return sum(self._n[(lane.id, state)] for lane in list(self.lanes.values()) if lane.queue == queue)

    def stir(self) -> None:
        """Count every lane with something to take among the fresh ones."""
        self._fresh |= self._ready

    def add(self, lane_id: int, state: str, n: int) -> None:
        """Change a number."""
        if state == READY and n > 0:
            self._fresh.add(lane_id)
        self._set(lane_id, state, self._n[(lane_id, state)] + n)
        self._changed.add((lane_id, state))
        self._journal.append((lane_id, state, n))

    def _set(self, lane_id: int, state: str, n: int) -> None:
        self._n[(lane_id, state)] = n
        if state == READY and n:
            self._ready.add(lane_id)
        elif state == READY:
            self._ready.discard(lane_id)

    def move(self, lane_id: int, old: str, new: str, n: int = 1) -> None:
        """Count tasks from one state over to another."""
        self.add(lane_id, old, -n)
        self.add(lane_id, new, n)

    def ends(self) -> Counter[str]:
        """How many tasks this transaction brought to each final state."""
        return ends_in(self._journal)

    def mark(self) -> int:
        """A place to undo to."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Take back everything since the mark."""
        while len(self._journal) > mark:
            lane_id, state, n = self._journal.pop()
            if state:
                self._set(lane_id, state, self._n[(lane_id, state)] - n)
            else:
                del self._lane_ids[self.lanes.pop(lane_id)[1:]]
                self._fresh.discard(lane_id)

    def flush(self, db: apsw.Connection) -> None:
        """Write what this transaction changed."""
        if self._changed:
            sql = "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = excluded.n"
            db.executemany(sql, [(*key, self._n[key]) for key in self._changed])

    def settled(self) -> None:
        """The transaction is over: forget its journal."""
        self._changed.clear()
        self._journal.clear()
        self._fresh.clear()
