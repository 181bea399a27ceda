"""Where the next tasks of a lane stand: locks the heads, and remembers up to where each lane was emptied.

The index of ready tasks keeps the entries of taken ones for as long as any transaction on the server may still see
them: one report that stays open for minutes leaves tens of thousands, and a scan from the very start would read all of
them with every claim. So a claim starts from where the last one ended. What becomes ready before that place is found
when this dispatcher makes it so (`enter`), when fewer are found than there should be, and by a look back once a second,
since other dispatchers do not tell; a look back that takes long is repeated the more seldom.
"""

import time
from collections.abc import Sequence

from dispatcher.store.postgres.counts import Ask

LOOK_BACK_MS = 1_000
SHARE = 50  # at most this part of the time goes into looking back
LONGEST_MS = 30_000
SPARE = 64  # heads that another dispatcher may have in hand
Place = tuple[int, int, int]  # (-priority, run_at, id)
Row = tuple[int, ...]  # a place and its lane
ORDER = "-priority, run_at, id"
ONE = f"""SELECT -priority, run_at, id, lane_id FROM tasks WHERE lane_id = %s AND ready {{after}}
    ORDER BY {ORDER} LIMIT %s FOR UPDATE SKIP LOCKED"""
AFTER = "AND (-priority, run_at, id) >= (%s, %s, %s)"
# the heads of all lanes, merged without locks; then as many as wanted are locked in that order
MERGED = f"""WITH heads AS MATERIALIZED (
        SELECT h.* FROM unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) AS l (lane, p, r, i)
        CROSS JOIN LATERAL (SELECT -priority AS place, run_at, id FROM tasks
            WHERE lane_id = l.lane AND ready AND (-priority, run_at, id) >= (l.p, l.r, l.i)
            ORDER BY {ORDER} LIMIT %s) AS h
        ORDER BY place, run_at, id LIMIT %s)
    SELECT -priority, run_at, id, lane_id FROM tasks WHERE ready AND id IN (SELECT id FROM heads)
    ORDER BY {ORDER} LIMIT %s FOR UPDATE SKIP LOCKED"""
FIRST: Place = (-(2**62), -(2**62), 0)


class Heads:
    """The place of the last task that was taken from each lane."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}
        self._look_back_at: dict[int, int] = {}  # on the steady clock
        self._pause = LOOK_BACK_MS  # what the last look back earned

    def enter(self, lane_id: int, place: Place) -> None:
        """A task became ready there."""
        if place < self._places.get(lane_id, place):
            self._places[lane_id] = place

    def forget(self) -> None:
        """What was taken was not taken after all."""
        self._places.clear()

    def lock(self, ask: Ask, lanes: Sequence[int], limit: int, now: int, known: int) -> list[int]:
        """The ids of up to `limit` ready tasks at the head of the lanes, locked, in their order; there should be
        `known` of them."""
        if limit <= 0 or not lanes:
            return []
        for lane_id in lanes:
            if not now < self._look_back_at.get(lane_id, now) <= now + LONGEST_MS:
                self._places.pop(lane_id, None)
        skipped = any(lane_id in self._places for lane_id in lanes)
        rows = self._heads(ask, lanes, limit, now)
        if skipped and len(rows) < min(limit, known) and self._pause <= LOOK_BACK_MS:
            for lane_id in lanes:
                self._places.pop(lane_id, None)
            rows = sorted({*rows, *self._heads(ask, lanes, limit, now)})[:limit]
        return [row[2] for row in rows]

    def _heads(self, ask: Ask, lanes: Sequence[int], limit: int, now: int) -> list[Row]:
        backwards = [lane_id for lane_id in lanes if lane_id not in self._places]
        began = time.monotonic()
        rows = self._ask(ask, lanes, limit)
        if backwards:
            self._pause = max(LOOK_BACK_MS, int(SHARE * 1000 * (time.monotonic() - began)))
            self._look_back_at.update(dict.fromkeys(backwards, now + min(self._pause, LONGEST_MS)))
        for place, run_at, task_id, lane_id in rows:
            self._places[lane_id] = (place, run_at, task_id)
        return rows

    def _ask(self, ask: Ask, lanes: Sequence[int], limit: int) -> list[Row]:
        places = [self._places.get(lane_id, FIRST) for lane_id in lanes]
        if len(lanes) == 1:
            after = AFTER if places[0] is not FIRST else ""
            return ask(ONE.format(after=after), (lanes[0], *(places[0] if after else ()), limit))
        many = limit + SPARE
        columns = [list(column) for column in zip(*places, strict=True)]
        return ask(MERGED, (list(lanes), *columns, many, many, limit))
