"""The writer's session: one connection, one transaction for a group, and what becomes of it when something fails.

A group runs without savepoints: only when one of its operations fails after it wrote is it run again with them. What
fails by chance (a serialization failure, a deadlock, a lost connection, a lock at its begin or its end) is run again as
a whole.

Two groups that hold what the other one wants, and run again whole, would meet again: that is what happens when workers
leave one dispatcher for another with requests at both. So for a while after a wait in vain operations wait for a lock
only a moment: who meets one is refused, and its sender comes again. What is locked at the end for all (limits of keys)
still makes the whole group run again.

A COMMIT whose answer is lost has a fate all the same. Each transaction that wrote raised the number of commits in this
dispatcher's row of `spells`; whoever locks that row afterwards waits for the lost transaction to end, and then reads
whether it is in the database. So nothing is stored twice because an answer was lost, named or not.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg

from dispatcher.clock import Clock
from dispatcher.errors import OutcomeUnknown, Unavailable
from dispatcher.store.postgres.again import Again
from dispatcher.store.postgres.clock import NOW, DatabaseClock
from dispatcher.store.postgres.connecting import (
    AWAY,
    BY_CHANCE,
    DAMAGED,
    IDLE_MS,
    LOCK_MS,
    PASSING,
    REFUSED,
    cause,
    connect,
)
from dispatcher.store.postgres.tx import PostgresTx
from dispatcher.store.postgres.watchdog import Watchdog
from dispatcher.store.writer import GroupFailed, RunAgain

log = logging.getLogger("taskmill.store")
T = TypeVar("T")
COMMITS_OF_A_SPELL = 250  # an old snapshot keeps every version of its counts alive: none has more than these
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
FATE = "SELECT commits FROM spells WHERE id = %s FOR UPDATE"
FATE_WITHIN_S, FATE_PAUSE_S = 10.0, 0.1
# longer than a lost session may stand idle before the server ends it
FATE_LOCK_MS = IDLE_MS + 2_000
COUNT_COMMIT = "UPDATE spells SET commits = commits + 1, seen_at = %s WHERE id = %s AND commits = %s AND settings = 0"
NEW_SPELL = """WITH next AS (INSERT INTO meta VALUES ('last_spell', '1')
        ON CONFLICT (key) DO UPDATE SET value = (meta.value::bigint + 1)::text RETURNING value::bigint AS id)
    INSERT INTO spells (id, seen_at) SELECT id, %s FROM next RETURNING id"""
WAITED = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
OVERTAKEN = Unavailable("another dispatcher came first")
HURRY_S = IDLE_MS / 1000  # after a deadlock or a wait in vain: so long a dispatcher that was stopped may hold its locks
HURRIED = "SET LOCAL lock_timeout = 200"  # meanwhile: longer than others take to commit, shorter than a deadlock
REST = "SET LOCAL lock_timeout = 50"  # after one of a group waited in vain: the group holds locks of its own


class Session:
    """One writing connection; lives in the writer's thread after the start."""

    def __init__(
        self, given: dict[str, Any], clock: DatabaseClock | Clock, news: Callable[[], None] = lambda: None
    ) -> None:
        self._given, self._clock, self._news = given, clock, news
        self._db: psycopg.Connection | None = None
        self._tx: PostgresTx | None = None
        self._spell = self._last_spell = self._commits = 0
        self._careful = False  # with a savepoint for each operation
        self._hurried_until = -math.inf
        self._finished: list[int] = []
        self._ends: Mapping[str, int] = {}
        self.watchdog = Watchdog()

    # a transaction
    def begin(self) -> None:
        """Start a transaction, on a fresh connection if the last one is gone."""
        try:
            db = self._fresh()
            if not self._spell or self._commits >= COMMITS_OF_A_SPELL:
                self._begin_spell(db)
            self._open(db)
            if self._last_spell:
                self.tx().end_spell(self._last_spell)
        except psycopg.Error as error:
            raise self._failure(error) from error

    def _open(self, db: psycopg.Connection) -> None:
        """Begin, and learn the time on the same way."""
        hurried = f"{HURRIED};" if self._is_hurried() else ""
        with self.watchdog.over(db):
            cursor = db.execute(f"{BEGIN}; {hurried} {NOW}")
        while cursor.nextset():  # the last one has the time
            pass
        if isinstance(self._clock, DatabaseClock) and (row := cursor.fetchone()):
            self._clock.set(row[0])
        self.tx().start(self._clock.now(), self._spell)

    def attempt(self, op: Callable[[PostgresTx], T]) -> T:
        """Run one operation; when it raises, what it wrote is undone."""
        tx = self.tx()
        tx.now = self._clock.now()
        mark = tx.mark()
        try:
            if not self._careful:
                return op(tx)
            self._execute("SAVEPOINT op")
            answer = op(tx)
            self._execute("RELEASE SAVEPOINT op")
            return answer
        except Again as error:
            raise RunAgain(OVERTAKEN) from error
        except REFUSED as error:
            self._note_wait(error)
            self._undo(mark, error)
            self._execute(REST)
            raise cause(error) from error
        except psycopg.Error as error:
            if _is_ours(error):
                raise self._failure(error) from error
            self._undo(mark, error)
            if isinstance(error, DAMAGED):
                raise cause(error) from error
            raise
        except Exception as error:
            self._undo(mark, error)
            raise

    def _undo(self, mark: tuple[int, int, int, Any], error: Exception) -> None:
        tx = self.tx()
        if not self._careful:
            if not isinstance(error, psycopg.Error) and tx.writes == mark[2]:
                tx.undo(mark)
                return
            self._careful = True
            raise RunAgain(cause(error)) from error
        try:
            self._execute("ROLLBACK TO SAVEPOINT op")
            self._execute("RELEASE SAVEPOINT op")
        except psycopg.Error as second:  # half an operation must not be committed
            raise self._failure(second) from second
        tx.undo(mark)

    def commit(self) -> bool:
        """Make the group durable; whether it wrote anything."""
        tx = self.tx()
        self._careful = False
        try:
            tx.settle_keys()
            tx.flush(self._spell)
            if not tx.writes:
                self._finished, self._ends = [], {}
                self._execute("COMMIT")
                return False
            self._count_commit()
        except Again as error:
            raise RunAgain(OVERTAKEN) from error
        except psycopg.Error as error:
            raise self._failure(error) from error
        self._finished, self._ends = tx.finished, tx.counts.ends() if tx.finished else {}
        has_news = tx.counts.gained()
        self._commit()
        if has_news:
            self._news()
        return True

    def _count_commit(self) -> None:
        known = (self._clock.now().wall, self._spell, self._commits)
        if self.tx().changed(COUNT_COMMIT, known) != 1:
            # folded by another dispatcher, which took us for gone; or settings of queues changed since this began
            self._last_spell, self._spell = self._last_spell or self._spell, 0
            raise RunAgain(Unavailable("another dispatcher came between"))

    def _commit(self) -> None:
        try:
            done = self._execute("COMMIT").statusmessage == "COMMIT"
        except psycopg.Error as error:
            if isinstance(error, BY_CHANCE) or not _is_ours(error):
                raise self._failure(error) from error
            done = self._fate(error)
        if not done:
            raise RunAgain(Unavailable("the transaction was rolled back"))
        self._commits += 1
        self._last_spell = 0
        self.tx().settled()

    def _fate(self, lost: psycopg.Error) -> bool:
        """Whether the transaction whose COMMIT got no answer is in the database; asked until there is an answer, for a
        bounded time."""
        log.warning("the answer to a COMMIT was lost (%s): looking for its fate", lost)
        deadline = time.monotonic() + FATE_WITHIN_S
        while True:
            try:
                return self._ask_fate()
            except psycopg.Error as error:
                if time.monotonic() > deadline:
                    known, self._spell, self._last_spell = self._spell, 0, 0  # folded in time, whatever became of it
                    log.warning("the fate of a COMMIT of spell %s stays unknown", known)
                    raise GroupFailed(OutcomeUnknown()) from error
            time.sleep(FATE_PAUSE_S)

    def _ask_fate(self) -> bool:
        db = self._fresh()
        db.execute(f"SET lock_timeout = {FATE_LOCK_MS}")
        row = db.execute(FATE, (self._spell,)).fetchone()
        db.execute(f"SET lock_timeout = {LOCK_MS}")
        return row is not None and row[0] == self._commits + 1

    def rollback(self) -> None:
        """Drop the group."""
        if self._db is None:
            return
        self.tx().undo()
        if not self._db.closed:
            with contextlib.suppress(psycopg.Error):
                self._db.execute("ROLLBACK")

    def finished(self) -> list[int]:
        """The tasks that this transaction brought to an end."""
        return self._finished

    def ends(self) -> Mapping[str, int]:
        """How many tasks this transaction brought to each final state."""
        return self._ends

    def close(self) -> None:
        """Let go of the connection; what this dispatcher counted is folded by the others, or by its successor."""
        self.watchdog.close()
        if self._db is not None:
            self._db.close()

    # the connection
    def tx(self) -> PostgresTx:
        """The operations of the present connection."""
        assert self._tx is not None
        return self._tx

    def _execute(self, sql: str) -> psycopg.Cursor[Any]:
        """A statement of the present transaction: on its own connection or not at all."""
        if self._db is None:
            raise psycopg.OperationalError("there is no connection")
        with self.watchdog.over(self._db):
            return self._db.execute(sql)

    def _fresh(self) -> psycopg.Connection:
        """The connection, outside of any transaction; a new one when the last is gone."""
        if self._db is None or self._db.closed:
            self._db = connect(self._given)
            self._tx = PostgresTx(self._db, self._clock, self.watchdog)
        return self._db

    def _begin_spell(self, db: psycopg.Connection) -> None:
        """The counts of the last spell are taken over by the first transaction of this one."""
        row = db.execute(NEW_SPELL, (self._clock.now().wall,)).fetchone()
        assert row is not None
        self.tx().forget_settings()
        self._last_spell = self._last_spell or self._spell
        self._spell, self._commits = int(row[0]), 0

    def _is_hurried(self) -> bool:
        return time.monotonic() < self._hurried_until

    def _note_wait(self, error: psycopg.Error) -> None:
        """Hurry after a wait in vain; what is refused meanwhile does not prolong it, or a busy row would keep it up."""
        if isinstance(error, WAITED) and not self._is_hurried():
            self._hurried_until = time.monotonic() + HURRY_S

    def _failure(self, error: psycopg.Error) -> GroupFailed:
        self._note_wait(error)
        if isinstance(error, PASSING):
            return RunAgain(cause(error))
        if isinstance(error, AWAY) and not isinstance(error, psycopg.errors.DiskFull):
            if self._db is not None:
                self._db.close()
            return RunAgain(cause(error))
        return GroupFailed(cause(error))


def _is_ours(error: psycopg.Error) -> bool:
    """Whether it says something of the database, and not of one operation's own statement."""
    return isinstance(error, (*BY_CHANCE, *AWAY))
