"""The moves of a running dispatcher, one at a time, in a thread of its own; and the switch without a restart.

While it is frozen the queue takes the new store for its own: claims that wait, clients that wait for results, leases
and ids are what they were. Workers notice a second of 503, as in any short outage.
"""

import logging
import threading
from pathlib import Path
from typing import Any

from dispatcher.errors import CannotOpen, DispatcherError, Invalid, MoveRuns, NothingToMove
from dispatcher.move.errors import Away, CannotMove
from dispatcher.move.progress import DONE, FAILED, Progress
from dispatcher.queue import Queue
from dispatcher.store.sqlite import SqliteStore

log = logging.getLogger("taskmill.move")
STOP_S = 10.0
STUCK = "the queue has left its file, but the last step failed ({}): stop the dispatcher and run the same command again"


class Moves:
    """`notify`: the setting DATABASE_NOTIFY, for the store that comes."""

    def __init__(self, queue: Queue, notify: bool = True) -> None:
        self._queue, self._notify = queue, notify
        self._door = threading.Lock()
        self._stopped = threading.Event()
        self._progress: Progress | None = None
        self._thread: threading.Thread | None = None

    def told(self) -> dict[str, Any] | None:
        """How the present move stands, or the last one; None when there was none."""
        return self._progress.told() if self._progress else None

    def begin(self, to: str, source: str | None, dry_run: bool) -> None:
        """Start a move, unless this very one runs already or was the last. Raises Invalid, MoveRuns, NothingToMove."""
        from dispatcher.move.target import Target  # its driver is loaded only where it is used

        try:
            target = Target(to)
        except CannotMove as error:
            raise Invalid("to", str(error)) from None
        with self._door:
            now = self._progress
            if now is not None and not now.is_over:
                if (now.target, now.dry_run) != (target.name, dry_run):
                    raise MoveRuns(now.target)
                return
            store = self._queue.store
            if not isinstance(store, SqliteStore):
                if now is not None and (now.phase, now.target) == (DONE, target.name):
                    return
                raise NothingToMove
            if source is not None and Path(source).resolve() != store.path.resolve():
                raise Invalid("from", f"this dispatcher's queue is {store.path}")
            self._progress = Progress(str(store.path), target.name, dry_run)
            self._thread = threading.Thread(
                target=self._run, args=(store, target, to, self._progress), name="move", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End a move that has not come to its commit point; wait for one that has."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _run(self, store: SqliteStore, target: Any, url: str, progress: Progress) -> None:
        try:
            self._move(store, target, url, progress)
        except (CannotMove, DispatcherError) as error:
            self._fail(progress, str(error))
        except Exception:  # whatever it is, the queue goes on and the operator is told
            log.exception("the move failed")
            self._fail(progress, "it failed unexpectedly; the dispatcher's log says why")
        finally:
            target.close()
        if progress.phase == DONE:
            store.close()

    def _move(self, store: SqliteStore, target: Any, url: str, progress: Progress) -> None:
        from dispatcher.move.mover import Mover
        from dispatcher.move.source import Source

        source = Source(store.path, store)
        try:
            stopped = lambda: self._stopped.is_set() or self._queue.draining  # noqa: E731
            mover = Mover(source, target, progress, stopped, self._queue.terms.silence_ms)
            if progress.dry_run:
                mover.check()
            else:
                mover.run(lambda: self._adopt(url))
        except Exception as error:
            if source.moved_to() is not None and self._queue.store is store:
                log.warning("behind the commit point", exc_info=not isinstance(error, CannotMove))
                raise CannotMove(STUCK.format(error)) from None
            raise
        finally:
            source.close()

    def _adopt(self, url: str) -> None:
        from dispatcher.store.postgres import PostgresStore

        try:
            store = PostgresStore(url, notify=self._notify)
        except (CannotOpen, DispatcherError) as error:
            raise Away(str(error)) from None
        try:
            self._queue.adopt(store)
        except DispatcherError as error:
            store.close()
            raise Away(str(error)) from None

    def _fail(self, progress: Progress, reason: str) -> None:
        log.warning("the move to %s ended while %s: %s", progress.target, progress.phase, reason)
        progress.end(FAILED, reason)
