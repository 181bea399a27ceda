"""Group commit: one thread, one transaction for all operations that wait, answers only after COMMIT.

Any thread calls `run(op)` and blocks. The writer thread drains what has gathered into one transaction, a savepoint for
each operation so that one that raises harms nobody, lets the waiting claims be served in the same transaction
(`before_commit`), commits, and only then wakes the callers: nothing is answered that is not durable (I1).
While a COMMIT waits for the disk, the next group gathers by itself; there is no timer.
A writer can be frozen: it finishes what it has accepted, and then takes only what says that it may pass (a move's own).

When the transaction itself fails, every caller of the group gets the same error and the session is opened anew. One
that failed by chance (RunAgain) is run once more from its start, a bounded number of times, before anybody is told:
an operation may therefore run several times, and what it does beside the store must not mind.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from dispatcher.errors import DispatcherError, Unavailable
from dispatcher.meters import StoreMeters

log = logging.getLogger("taskmill.writer")
A = TypeVar("A")
T = TypeVar("T")
X = TypeVar("X", covariant=True)
MAX_GROUP = 256
PATIENCE_S = 3.0  # after this a group is not run again
PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)  # before a group is run again, with full jitter


class GroupFailed(Exception):
    """The whole transaction is gone; `cause` is what every caller is told."""

    def __init__(self, cause: DispatcherError) -> None:
        super().__init__(str(cause))
        self.cause = cause

    def told(self) -> str:
        """For the log: with the kind of error behind it, whose text may hold what nobody else is to read."""
        return str(self) if self.__cause__ is None else f"{self} ({type(self.__cause__).__name__})"


class RunAgain(GroupFailed):
    """The whole transaction is gone by chance: run once more, it may well succeed."""


class Serving(Protocol):
    """What `before_commit` promised to those who wait, until the COMMIT decides."""

    def settle(self, failure: DispatcherError | None) -> None:
        """Answer them: it is durable, or it failed."""
        ...

    def undo(self) -> None:
        """It never happened: they wait on."""
        ...


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

    def ends(self) -> Mapping[str, int]:
        """How many tasks this transaction brought to each final state."""
        ...

    def close(self) -> None: ...


class _Call(Generic[T]):
    """An operation on its way through the writer; the lock is a latch that opens once. What may be done together with
    others has also `kind`, the same function for all of these, and what it is `asked`."""

    __slots__ = ("answer", "asked", "error", "kind", "latch", "op")

    def __init__(self, op: Callable[[Any], T], kind: Callable[..., Any] | None = None, asked: Any = None) -> None:
        self.op, self.kind, self.asked = op, kind, asked
        self.answer: T | None = None
        self.error: BaseException | None = None
        self.latch = threading.Lock()
        self.latch.acquire()


def _nothing_waits(_: Any) -> Serving | None:
    return None


class Writer(Generic[X]):
    """The writer thread and the queue before it."""

    def __init__(self, session: Session[X]) -> None:
        self.before_commit: Callable[[X], Serving | None] = _nothing_waits
        self.after_commit: Callable[[list[int]], None] = lambda finished: None
        self.commits = 0
        self.meters = StoreMeters()
        self.writes = 0  # transactions that wrote
        self.healthy = True
        self._session = session
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._stopped = False
        self._frozen: str | None = None
        self._door = threading.Lock()  # nothing is queued behind the end
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)
        self._thread.start()

    def run(self, op: Callable[[X], T], even_frozen: bool = False) -> T:
        """The answer of `op`, once durable."""
        return self._made(_Call(op), even_frozen)

    def run_together(self, op: Callable[[X, Sequence[A]], Sequence[T]], asked: A) -> T:
        """What `op` answers to `asked`, once durable. What one group asks of the same `op` it does at once, an answer
        for each; should that raise, each by itself."""
        return self._made(_Call(lambda tx: op(tx, [asked])[0], op, asked))

    def _made(self, call: _Call[T], even_frozen: bool = False) -> T:
        with self._door:
            if self._stopped:
                raise Unavailable("the dispatcher is stopping")
            if self._frozen is not None and not even_frozen:
                raise Unavailable(self._frozen)
            self._calls.put(call)
        call.latch.acquire()
        if call.error is not None:
            raise call.error
        return call.answer  # type: ignore[return-value]

    def freeze(self, reason: str) -> None:
        """Refuse every operation from now on (Unavailable); returns when all that was accepted before is finished."""
        with self._door:
            self._frozen = reason
        self.run(_nothing_waits, even_frozen=True)

    def thaw(self) -> None:
        """Take operations again."""
        with self._door:
            self._frozen = None

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
        deadline = time.monotonic() + PATIENCE_S
        for pause in (*PAUSES_S, None):
            serving, failure = self._try_group(group)
            if not isinstance(failure, RunAgain) or pause is None or time.monotonic() > deadline:
                break
            log.debug("transaction runs again: %s", failure.told())
            if serving is not None:
                serving.undo()
            time.sleep(random.uniform(0, pause))  # noqa: S311  jitter, not a secret
        if failure is not None:
            log.warning("transaction failed: %s", failure.told())
        self.healthy = self.healthy and failure is None
        self._answer(group, serving, failure.cause if failure else None)

    def _try_group(self, group: list[_Call[Any]]) -> tuple[Serving | None, GroupFailed | None]:
        """Run the group once; what it promised to those who wait, and why it failed."""
        serving, failure = None, None
        try:
            self._session.begin()
            self._attempt_all(group)
            serving = self._serve_waiting()
            began = time.perf_counter()
            if self._session.commit():
                self.healthy = True
                self.writes += 1
                self._measure(len(group), time.perf_counter() - began)
            self.commits += 1
        except GroupFailed as error:
            failure = error
        except Exception:  # whatever it is, the writer must live and its callers be told
            failure = GroupFailed(Unavailable("the store failed; its log says why"))
            log.exception("transaction failed")
        if failure is not None:
            self._session.rollback()
        return serving, failure

    def _measure(self, operations: int, seconds: float) -> None:
        self.meters.commit_seconds.add((seconds,))
        self.meters.group_sizes.add((operations,))
        for state, n in self._session.ends().items():
            self.meters.ended.add(state, n=n)

    def _attempt_all(self, group: list[_Call[Any]]) -> None:
        """Each operation, first those that nobody can share, then the others by their kinds."""
        kinds: dict[Callable[..., Any], list[_Call[Any]]] = {}
        for call in group:
            if call.kind is None:
                self._attempt(call)
            else:
                kinds.setdefault(call.kind, []).append(call)
        for op, calls in kinds.items():
            if len(calls) == 1 or not self._attempt_together(op, calls):
                for call in calls:
                    self._attempt(call)

    def _attempt_together(self, op: Callable[..., Any], calls: list[_Call[Any]]) -> bool:
        """Whether they could be done at once."""

        def at_once(tx: Any) -> Any:
            return op(tx, [call.asked for call in calls])

        try:
            answers = self._session.attempt(at_once)
        except GroupFailed:
            raise
        except Exception:  # of one of them: by itself it will say so
            return False
        for call, answer in zip(calls, answers, strict=True):
            call.answer, call.error = answer, None
        return True

    def _attempt(self, call: _Call[Any]) -> None:
        call.error = None
        try:
            call.answer = self._session.attempt(call.op)
        except GroupFailed:
            raise
        except Exception as error:  # whatever the operation raised belongs to its caller
            call.error = error

    def _serve_waiting(self) -> Serving | None:
        try:
            return self._session.attempt(self.before_commit)
        except GroupFailed:
            raise
        except DispatcherError as error:  # what they need is in other hands: they are served with the next group
            log.info("the waiting claims are not served now: %s", error)
            return None
        except Exception:
            log.exception("serving the waiting claims failed")
            return None

    def _answer(self, group: list[_Call[Any]], serving: Serving | None, failure: DispatcherError | None) -> None:
        """Those first who wait for work or for an end, since a whole task waits behind them; then the callers."""
        try:
            if serving is not None:
                serving.settle(failure)
            if failure is None and (finished := self._session.finished()):
                self.after_commit(finished)
        except Exception:  # a hook must not end the writer
            log.exception("telling of a commit failed")
        for call in group:
            call.error = call.error or failure
            call.latch.release()

    def _refuse_rest(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                call.error = Unavailable("the dispatcher is stopping")
                call.latch.release()
