"""Lanes and counts: what one transaction changes is kept in memory and added to this dispatcher's own rows at its end.

Other dispatchers add to rows of theirs, so nobody waits for anybody; the sum over all rows is the truth. What a
transaction sees of it is as old as its first look: a lane that another dispatcher has emptied since gives nothing to
take, one that it has filled since is found when its waiting claims look around.

An old snapshot on the server keeps every version of every count alive, and a scan reads them all. So the rows belong to
spells of a bounded number of commits, and are looked up by the spells that live: those that were seen at the last look
around, and whatever has a higher number.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from dispatcher.model import Lane, State
from dispatcher.store.tally import READY, ends_in

SPELLS = "SELECT id FROM spells"
SUMS = """SELECT l.id, l.queue, l.task_type, l.requires, sum(c.n)
    FROM (SELECT lane_id, n FROM counts WHERE spell = ANY(%s) AND state = 'ready'
          UNION ALL SELECT lane_id, n FROM counts
          WHERE spell > %s AND spell <> ALL(%s) AND state = 'ready') AS c (lane_id, n)
    JOIN lanes AS l ON l.id = c.lane_id GROUP BY l.id HAVING sum(c.n) > 0"""
LOOK_AROUND_MS = 1_000
LANE = "SELECT id, queue, task_type, requires FROM lanes WHERE"
NEW_LANE = """INSERT INTO lanes (queue, task_type, requires) VALUES (%s, %s, %s)
    ON CONFLICT (queue, task_type, requires) DO NOTHING RETURNING id, queue, task_type, requires"""
FLUSH = """INSERT INTO counts (spell, lane_id, state, n)
    SELECT %s, * FROM unnest(%s::integer[], %s::text[], %s::bigint[])
    ON CONFLICT (spell, state, lane_id) DO UPDATE SET n = counts.n + excluded.n"""

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Counts:
    """What this transaction changed, and the lanes that this dispatcher knows."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lanes: dict[int, Lane] = {}
        self._lane_ids: dict[tuple[str, str, tuple[str, ...]], int] = {}
        self._changes: dict[tuple[int, str], int] = defaultdict(int)
        self._journal: list[tuple[int, str, int]] = []
        self._carried: list[tuple[int, str, int]] = []
        self._fresh: set[int] = set()
        self.limited: frozenset[str] = frozenset()  # queues that run only so many tasks
        self._sums: dict[int, int] | None = None
        self._spells: list[int] = []
        self._looked_around = -LOOK_AROUND_MS
        self.now = self.spell = 0  # the moment and the spell of the present transaction

    # lanes
    def lane_id(self, queue: str, task_type: str, requires: tuple[str, ...]) -> int:
        """The id of a lane, made when it is new."""
        known = self._lane_ids.get((queue, task_type, requires))
        return known if known is not None else self._find_lane(queue, task_type, json.dumps(requires))

    def _find_lane(self, *key: str) -> int:
        by_key = f"{LANE} queue = %s AND task_type = %s AND requires = %s"
        found = self._ask(by_key, key)
        if not found:
            made = self._ask(NEW_LANE, key)
            found = made or self._ask(by_key, key)
            self._journal += [(row[0], "", 0) for row in made]
        return self._learn(found[0]).id

    def lane(self, lane_id: int) -> Lane:
        """A lane by its id."""
        return self._lanes.get(lane_id) or self._learn(self._ask(f"{LANE} id = %s", [lane_id])[0])

    def _learn(self, row: Sequence[Any]) -> Lane:
        lane = Lane(row[0], row[1], row[2], tuple(json.loads(row[3])))
        self._lanes[lane.id] = lane
        self._lane_ids[lane[1:]] = lane.id
        return lane

    # what is ready
    def ready(self, lane_id: int) -> int:
        """How many tasks of a lane can be taken."""
        return self._seen().get(lane_id, 0) + self._changes.get((lane_id, READY), 0)

    def _seen(self) -> dict[int, int]:
        if self._sums is None:
            known = self._known()
            rows = self._ask(SUMS, (known, max(self._spells, default=0), known))
            self._sums = {self._learn(row).id: int(row[4]) for row in rows}
        return self._sums

    def _known(self) -> list[int]:
        """The spells of the last look around, and one's own."""
        if not 0 <= self.now - self._looked_around < LOOK_AROUND_MS:
            self._looked_around, self._spells = self.now, [row[0] for row in self._ask(SPELLS, ())]
        return [*self._spells, self.spell]

    def ready_lanes(self) -> list[Lane]:
        """Lanes with something to take."""
        changed = {lane_id for lane_id, state in self._changes if state == READY}
        return [self.lane(lane_id) for lane_id in {*self._seen(), *changed} if self.ready(lane_id) > 0]

    def fresh_lanes(self) -> list[Lane]:
        """Lanes that gained ready tasks since the transaction began, and still have some; and those of limited queues
        in which tasks ended."""
        for queue in self._freed():
            self.freshen(queue)
        return [self.lane(lane_id) for lane_id in self._fresh if self.ready(lane_id) > 0] if self._fresh else []

    def gained(self) -> bool:
        """Whether any lane gained ready tasks (they may have been taken again), or a limited queue got room."""
        return bool(self._fresh or self._freed())

    def _freed(self) -> frozenset[str] | set[str]:
        if not self.limited:
            return set()
        running = State.IN_PROGRESS.value
        return self.limited & {self.lane(i).queue for i, state, n in self._journal if n < 0 and state == running}

    def freshen(self, queue: str) -> None:
        """Count a queue's ready lanes among the fresh ones."""
        self._fresh.update(lane.id for lane in self.ready_lanes() if lane.queue == queue)

    def changed_in(self, queue: str, state: str) -> int:
        """By how much this transaction changed the number of a whole queue."""
        return sum(
            n for (lane_id, kind), n in self._changes.items() if kind == state and self.lane(lane_id).queue == queue
        )

    def look_afresh(self) -> None:
        """Count what others made ready among the fresh lanes."""
        self._sums = None
        self._fresh.update(lane.id for lane in self.ready_lanes())

    # changes
    def add(self, lane_id: int, state: str, n: int) -> None:
        """Change a number."""
        if state == READY and n > 0:
            self._fresh.add(lane_id)
        if n:
            self._changes[(lane_id, state)] += n
            self._journal.append((lane_id, state, n))

    def carry(self, lane_id: int, state: str, n: int) -> None:
        """Take over a number from rows that were deleted."""
        self._sums = None
        self._changes[(lane_id, state)] += n
        self._journal.append((lane_id, state, n))
        self._carried.append((lane_id, state, n))

    def move(self, lane_id: int, old: str, new: str, n: int = 1) -> None:
        """Count tasks from one state over to another."""
        self.add(lane_id, old, -n)
        self.add(lane_id, new, n)

    def ends(self) -> Counter[str]:
        """How many tasks this transaction brought to each final state."""
        return ends_in(self._journal) - ends_in(self._carried)

    def mark(self) -> int:
        """A place to undo to."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Take back everything since the mark."""
        while len(self._journal) > mark:
            lane_id, state, n = self._journal.pop()
            if state:
                self._changes[(lane_id, state)] -= n
            else:
                del self._lane_ids[self._lanes.pop(lane_id)[1:]]
                self._fresh.discard(lane_id)

    def to_flush(self) -> tuple[list[int], list[str], list[int]] | None:
        """The changed numbers as columns, in one order for all dispatchers; None when nothing changed."""
        rows = sorted((*key, n) for key, n in self._changes.items() if n)
        if not rows:
            return None
        lane_ids, states, numbers = zip(*rows, strict=True)
        return list(lane_ids), list(states), list(numbers)

    def forget(self) -> None:
        """The transaction is over; what it learned of lanes stays."""
        self._changes.clear()
        self._journal.clear()
        self._carried.clear()
        self._fresh.clear()
        self._sums = None
