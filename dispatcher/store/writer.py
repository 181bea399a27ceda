"""Group commit: one thread, one transaction for all operations that wait, answers only after COMMIT.

Any thread calls `run(op)` and blocks. The writer thread drains what has gathered into one transaction, a savepoint for
each operation so that one that raises harms nobody, lets the waiting claims be served in the same transaction
(`before_commit`), commits, and only then wakes the callers: nothing is answered that is not durable (I1).
While a COMMIT waits for the disk, the next group gathers by itself; there is no timer.

When the transaction itself fails, every caller of the group gets the same error and the session is opened anew.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from dispatcher.errors import DispatcherError, Unavailable

log = logging.getLogger("taskmill.writer")
T = TypeVar("T")
X = TypeVar("X", covariant=True)
MAX_GROUP = 256
Settle = Callable[[DispatcherError | None], None]


class GroupFailed(Exception):
    """The whole transaction is gone; `cause` is what every caller is told."""

    def __init__(self, cause: DispatcherError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Session(Protocol[X]):
    """One writing connection: what a database gives to the writer. Every method may raise GroupFailed."""

    def begin(self) -> None: ...
    def attempt(self, op: Callable[[X], T]) -> T:
        """Run one operation in a savepoint; when it raises, undo just that."""
        ...

    def commit(self) -> bool:
        """Make the group durable; whether it wrote anything."""
        ...

    def rollback(self) -> None:
        """Drop the group. Never raises."""
        ...

    def finished(self) -> list[int]:
        """The tasks that this transaction brought to an end."""
        ...

    def close(self) -> None: ...


class _Call(Generic[T]):
    """An operation on its way through the writer; the lock is a latch that opens once."""

    __slots__ = ("answer", "error", "latch", "op")

    def __init__(self, op: Callable[[Any], T]) -> None:
        self.op = op
        self.answer: T | None = None
        self.error: BaseException | None = None
        self.latch = threading.Lock()
        self.latch.acquire()


def _nothing_waits(_: Any) -> Settle | None:
    return None


class Writer(Generic[X]):
    """The writer thread and the queue before it."""

    def __init__(self, session: Session[X]) -> None:
        self.before_commit: Callable[[X], Settle | None] = _nothing_waits
        self.after_commit: Callable[[list[int]], None] = lambda finished: None
        self.commits = 0
        self.healthy = True
        self._session = session
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._stopped = False
        self._door = threading.Lock()  # nothing is queued behind the end
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)
        self._thread.start()

    def run(self, op: Callable[[X], T]) -> T:
        """The answer of `op`, once durable."""
        call = _Call(op)
        with self._door:
            if self._stopped:
                raise Unavailable("the dispatcher is stopping")
            self._calls.put(call)
        call.latch.acquire()
        if call.error is not None:
            raise call.error
        return call.answer  # type: ignore[return-value]

    def close(self) -> None:
        """Finish what was accepted, then close the session."""
        with self._door:
            if self._stopped:
                return
            self._stopped = True
            self._calls.put(None)
        self._thread.join()
        self._session.close()

    def _loop(self) -> None:
        while (first := self._calls.get()) is not None:
            group, ends = self._gather(first)
            self._commit_group(group)
            if ends:
                break
        self._refuse_rest()

    def _gather(self, first: _Call[Any]) -> tuple[list[_Call[Any]], bool]:
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                break
            if call is None:
                return group, True
            group.append(call)
        return group, False

    def _commit_group(self, group: list[_Call[Any]]) -> None:
        settle, failure = None, None
        try:
            self._session.begin()
            for call in group:
                self._attempt(call)
            settle = self._serve_waiting()
            if self._session.commit():
                self.healthy = True
            self.commits += 1
        except GroupFailed as error:
            failure = error.cause
            log.warning("transaction failed: %s", failure)
        except Exception:  # whatever it is, the writer must live and its callers be told
            failure = Unavailable("the store failed; its log says why")
            log.exception("transaction failed")
        if failure is not None:
            self.healthy = False
            self._session.rollback()
        self._answer(group, settle, failure)

    def _attempt(self, call: _Call[Any]) -> None:
        try:
            call.answer = self._session.attempt(call.op)
        except GroupFailed:
            raise
        except Exception as error:  # whatever the operation raised belongs to its caller
            call.error = error

    def _serve_waiting(self) -> Settle | None:
        try:
            return self._session.attempt(self.before_commit)
        except GroupFailed:
            raise
        except Exception:
            log.exception("serving the waiting claims failed")
            return None

    def _answer(self, group: list[_Call[Any]], settle: Settle | None, failure: DispatcherError | None) -> None:
        for call in group:
            call.error = call.error or failure
            call.latch.release()
        try:
            if settle is not None:
                settle(failure)
            if failure is None and (finished := self._session.finished()):
                self.after_commit(finished)
        except Exception:  # a hook must not end the writer
            log.exception("telling of a commit failed")

    def _refuse_rest(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                call.error = Unavailable("the dispatcher is stopping")
                call.latch.release()
