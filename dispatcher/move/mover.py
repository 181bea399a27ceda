"""The move: copy while the queue lives, catch up, freeze for the rest, switch.

1. **Check.** The target must be empty, or hold a part of this very queue (an earlier run). It gets the schema and a
   mark that keeps dispatchers away. Triggers begin to note which rows change (`capture.py`).
2. **Copy** table by table in the order of keys, in short reads; each batch is compared with what the target then gives
   back. After each table what changed meanwhile is brought up to date: rows as they are now, absent ones deleted.
   Each transaction on the target also notes how far it came, so any interruption is taken up again.
3. **Verify** on one moment of the file: the changes up to that moment are applied, and as nobody else writes to the
   target, both sides must be the same then: counts and checksums of all tables. The queue lives on meanwhile, so a
   large queue is not frozen for longer than a small one.
4. **Switch.** The writer is frozen: it finishes what it had accepted and answers 503 to the rest. The last changes are
   applied, compared like all others, and the kept counts of tasks must equal a recount in the target. Then the *commit
   point*: the file is marked as moved, durably, so that no dispatcher ever starts on it again; then the target becomes
   the queue, in one transaction. Before the first mark the file is the queue, whatever happened in the target; after it
   only the target can become it. A kill between the two leaves no queue that could be served: the same command, run
   again, takes the last step.
"""

import json
import logging
import time
from collections.abc import Callable

from dispatcher.move import capture, checksums
from dispatcher.move.errors import Away, CannotMove, Stopped
from dispatcher.move.progress import CHECKED, COPYING, DONE, SWITCHING, VERIFYING, Progress
from dispatcher.move.source import Source
from dispatcher.move.tables import Piece, Table
from dispatcher.move.target import Target, holder

log = logging.getLogger("taskmill.move")
BATCH = 1000  # rows
CHANGES = 5000  # followed in one transaction
MOST_PIECES = 16  # as well; each is of some megabytes at most
QUICK_S = 0.5  # a round of catching up that leaves little
FREE_ROUNDS, ROUNDS = 8, 60  # that the writer may go on undisturbed; before it is clear that it never ends
FORGET = 2000  # entries of the change log dropped in one transaction
YIELD = 0.25  # the rest for others after a batch, as a share of what it took
FINISH_PATIENCE_S = 2.0
AGAIN_S = 0.2


class Mover:
    """One move, in the caller's thread. `stopped` ends it between two batches, up to the commit point."""

    def __init__(
        self, source: Source, target: Target, progress: Progress, stopped: Callable[[], bool], floor_ms: int
    ) -> None:
        self._source, self._target, self._progress = source, target, progress
        self._stopped, self._floor_ms = stopped, floor_ms
        self._seq, self._at = 0, dict[str, str]()  # of the change log; the last key of each table
        progress.store_id = source.store_id

    def check(self) -> None:
        """The dry run: everything that can be told without changing anything."""
        there = self._source.moved_to()
        if there is not None:
            raise CannotMove(f"{self._source.path} has moved to {there}")
        self._count()
        self._progress.note = self._target.look(self._source.store_id, self._source.tables)
        self._progress.end(CHECKED)

    def run(self, switch: Callable[[], None] = lambda: None) -> None:
        """The whole move; `switch` is called, still frozen, when the target is the queue. Raises CannotMove."""
        if self._is_done_already():
            self._progress.note = "had moved already"
            self._progress.end(DONE)
            return
        self._count()
        self._begin()
        self._enter(COPYING)
        for table in self._target.tables:
            self._copy(table)
            self._catch_up()
        self._enter(VERIFYING)
        self._verify()
        self._catch_up()
        self._switch(switch)

    def _enter(self, phase: str) -> None:
        log.info("moving to %s: %s", self._target.name, phase)
        self._progress.phase = phase

    def _count(self) -> None:
        for table in self._source.tables:
            self._progress.rows[table.name] = self._source.rows(table)

    # beginning
    def _is_done_already(self) -> bool:
        """A file that says where it went is only taken there, and may be there."""
        there = self._source.moved_to()
        if there is None:
            return False
        if there != self._target.name:
            raise CannotMove(f"{self._source.path} has moved to {there}: name that database")
        return holder(self._target) == self._source.store_id

    def _begin(self) -> None:
        self._target.prepare(self._source.store_id, self._source.tables)
        if self._source.is_written:
            self._source.write(lambda db: capture.install(db, self._source.tables))
        number = capture.number(self._source.db)
        if number is None:
            raise CannotMove("the change log is gone")
        begun = self._target.begun(number)
        if begun and capture.is_whole_since(self._source.db, begun[0]):
            self._seq, self._at = begun
            self._progress.note = "taken up where it was interrupted"
        elif self._source.is_written:
            self._seq, self._at = capture.first_and_last(self._source.db)[1], {}
            self._target.begin(number, self._seq)
        else:
            raise CannotMove(f"{self._source.path} has moved to {self._target.name}, which does not know of it")

    # rows
    def _copy(self, table: Table) -> None:
        """From where it stands, or the start, to what is the end now: rows that come behind it are changes."""
        mark, last = self._at.get(table.name), self._source.last_key(table)
        while last:
            self._check_stop()
            began = time.monotonic()
            rows = self._source.between(table, table.read_key(mark) if mark else None, last, BATCH)
            if not rows:
                break
            keys = [table.key_of(row) for row in rows]
            mark = json.dumps(keys[-1])
            self._target.put([Piece(table, keys, rows)], (f"moving_at {table.name}", mark))
            self._progress.add(table.name, len(rows))
            self._give_way(began)

    def _catch_up(self) -> None:
        """Follow the changes until a round is quick: what came meanwhile will be no more work than that."""
        for number in range(ROUNDS):
            began = time.monotonic()
            upto = self._last_change()
            while self._seq < upto:
                if number < FREE_ROUNDS:
                    self._give_way(self._apply_some())
                else:  # changes come faster than they are followed: let the writer wait while we work
                    self._source.write(lambda db: self._apply_some())
            self._forget()
            if time.monotonic() - began < QUICK_S:
                return
        raise CannotMove("the queue changes faster than it can be copied: try again when less is going on")

    def _last_change(self) -> int:
        last = capture.first_and_last(self._source.db)[1]
        self._progress.delta = max(last - self._seq, 0)
        return last

    def _apply_all(self) -> None:
        """While nothing new comes."""
        while self._seq < self._last_change():
            self._apply_some()

    def _apply_some(self) -> float:
        """Bring the rows up to date that the next changes name; when it began."""
        self._check_stop()
        began = time.monotonic()
        found = capture.changes(self._source.db, self._seq, CHANGES)
        if not found:
            raise CannotMove("the change log is not whole")
        keys = dict.fromkeys((change.table, change.key) for change in found)
        pieces = list[Piece]()
        for table in self._target.tables:
            named = [table.read_key(key) for name, key in keys if name == table.name]
            for piece in self._source.at(table, named):
                pieces.append(piece)
                if len(pieces) > MOST_PIECES:
                    self._target.put(pieces)
                    pieces = []
        self._seq = found[-1].seq
        self._target.put(pieces, ("moving_seq", str(self._seq)))
        self._progress.changes += len(found)
        return began

    def _forget(self) -> None:
        """Drop from the log what the target has."""
        while self._source.is_written and self._source.write(lambda db: capture.forget(db, self._seq, FORGET)):
            self._check_stop()

    def _give_way(self, began: float) -> None:
        """The dispatcher's other threads want to run too."""
        if self._source.is_written:
            time.sleep((time.monotonic() - began) * YIELD)

    def _check_stop(self) -> None:
        if self._stopped():
            raise Stopped

    # the end
    def _verify(self) -> None:
        with self._source.moment():
            self._apply_all()
            for table in self._target.tables:
                self._check_stop()
                self._verify_table(table)
        self._target.learn()

    def _verify_table(self, table: Table) -> None:
        ours = self._source.db.execute(checksums.of_source(table)).fetchone()
        theirs = self._target.run(lambda db: db.execute(checksums.of_target(table)).fetchone())
        assert ours is not None
        assert theirs is not None
        if wrong := checksums.difference(table, ours, theirs):
            raise CannotMove(wrong)
        self._progress.verified += ours[0]

    def _switch(self, switch: Callable[[], None]) -> None:
        began = time.monotonic()
        self._enter(SWITCHING)
        with self._source.frozen():
            self._target.patience_s = FINISH_PATIENCE_S
            self._apply_all()
            counts = self._source.counts()
            if counts != self._target.counts():
                raise CannotMove("the counts of tasks differ from a recount in the target")
            for name, column in self._target.identities():
                self._raise_ids(name, column)
            self._source.leave(self._target.name)
            self._insist(lambda: self._target.finish(self._source.store_id, counts, self._floor_ms))
            self._insist(switch)
        self._progress.frozen_seconds = round(time.monotonic() - began, 3)
        log.info("moved to %s; frozen for %.2f s", self._target.name, self._progress.frozen_seconds)
        self._progress.end(DONE)

    def _raise_ids(self, name: str, column: str) -> None:
        for table in self._target.tables:
            if table.name == name and (highest := self._source.highest(table, column)):
                self._target.hand_out_above(name, column, highest)

    def _insist(self, step: Callable[[], None]) -> None:
        """Behind the commit point there is no way back: while the database is away we wait for it."""
        while True:
            try:
                step()
                return
            except Away as error:
                log.warning("the queue has moved, all but the last step: %s", error)
                self._progress.note = str(error)
                if self._stopped():
                    raise
                time.sleep(AGAIN_S)
