"""Waiting claims: parked with the writer, served inside its transactions (DESIGN mechanism 5).

One waiter an instance. `park` runs in the writer's thread, in the same operation that found nothing to take, so no
submit slips between. `serve` runs at the end of each transaction: those that get something are answered after its
COMMIT, nobody else wakes. A waiter that is dismissed (a higher number, orders, a drain) or times out gets no tasks.
"""

import threading
from collections.abc import Callable, Collection, Mapping

from dispatcher.errors import DispatcherError, Unavailable
from dispatcher.model import Lane, Orders
from dispatcher.queue.blame import NOBODY, Blame
from dispatcher.queue.claim import Claim, Claimed, grant, orders_for
from dispatcher.queue.terms import Terms
from dispatcher.store.base import Tx
from dispatcher.store.writer import Serving

MOST_REMEMBERED = 100_000


class Parked:
    """One waiting claim; `latch` opens when it is answered or dismissed. Guarded by the lock of Waiting."""

    __slots__ = ("asked", "error", "instance", "latch", "leaving", "overdue", "served", "serving")

    def __init__(self, asked: Claim, instance: int | None = None) -> None:
        self.asked, self.instance = asked, instance
        self.latch = threading.Semaphore(0)
        self.serving = self.leaving = False
        self.overdue = False  # it waited as long as it asked for, and nothing concerned it
        self.served: Claimed | None = None
        self.error: DispatcherError | None = None


class Waiting:
    """All waiting claims, oldest first."""

    def __init__(self, terms: Terms, blame: Blame = NOBODY) -> None:
        self._terms, self._blame = terms, blame
        self._lock = threading.Lock()
        self._parked: dict[str, Parked] = {}
        self._highest: dict[str, int] = {}
        self._closed = False
        self.wakes: dict[str, int] = {}  # queues that their rate holds back, and until when (steady clock)
        self.hurry: Callable[[], None] = lambda: None  # there is one more of them

    def __len__(self) -> int:
        return len(self._parked)

    def outdated(self, asked: Claim) -> bool:
        """Note a claim's number; True when the instance has already sent a higher one, so it gets nothing new."""
        with self._lock:
            highest = self._highest.pop(asked.instance_id, 0)
            self._highest[asked.instance_id] = max(highest, asked.request_id)
            if len(self._highest) > MOST_REMEMBERED:
                del self._highest[next(iter(self._highest))]  # the one that has been silent for longest
            older = self._parked.get(asked.instance_id)
            if older is not None and asked.request_id > older.asked.request_id:
                self._dismiss(older)
            return asked.request_id < highest

    def park(self, parked: Parked) -> bool:
        """Let a claim wait; False when the dispatcher drains, or a higher number has come meanwhile."""
        asked = parked.asked
        with self._lock:
            if self._closed or asked.request_id < self._highest.get(asked.instance_id, 0):
                return False
            older = self._parked.pop(asked.instance_id, None)
            if older is not None:
                older.latch.release()
            self._parked[asked.instance_id] = parked
            return True

    def unpark(self, parked: Parked) -> None:
        """The operation that parked a claim did not count: it runs again."""
        with self._lock:
            self._forget(parked)

    def wait(self, parked: Parked) -> Claimed | None:
        """Block until served (the answer), or dismissed or timed out (None); raises what made the serving fail."""
        if not parked.latch.acquire(timeout=parked.asked.wait_ms / 1000):
            parked.overdue = self.leave(parked)
            if not parked.overdue:
                parked.latch.acquire()  # it is being served in this very transaction
        if parked.error is not None:
            raise parked.error
        return parked.served

    def leave(self, parked: Parked) -> bool:
        """Wait no longer; False when it is being served."""
        with self._lock:
            if parked.serving:
                parked.leaving = True
                return False
            self._forget(parked)
            return True

    def serve(self, tx: Tx) -> Serving | None:
        """Grant what became ready in this transaction to those that wait for it, the longest waiting first."""
        tx.settle_keys()
        self._note_wakes(tx)
        if not self._parked or not tx.fresh_lanes():
            return None
        served = _Served(self)
        try:
            self._serve_hungry(tx, served.answers)
        except BaseException:  # what was granted is undone, and the next try may fail as well: they shall not hang
            served.settle(Unavailable("the waiting claims could not be served"))
            raise
        self._note_wakes(tx)
        return served if served.answers else None

    def _note_wakes(self, tx: Tx) -> None:
        if tx.wakes:
            with self._lock:
                self.wakes.update(tx.wakes)
            tx.wakes.clear()
            self.hurry()

    def soonest(self) -> int | None:
        """When the first of the queues that their rate holds back is due (steady clock)."""
        with self._lock:
            return min(self.wakes.values(), default=None)

    def due(self, now: int) -> list[str]:
        """The queues whose rate lets something start by now, once; none while nobody waits."""
        with self._lock:
            due = [queue for queue, at in self.wakes.items() if at <= now]
            for queue in due:
                del self.wakes[queue]
            return due if self._parked else []

    def _serve_hungry(self, tx: Tx, served: list[tuple[Parked, Claimed]]) -> None:
        for parked in self._hungry():
            if not (lanes := tx.fresh_lanes()):
                return
            if answer := self._grant(tx, parked, lanes):
                served.append((parked, answer))

    def _hungry(self) -> list[Parked]:
        with self._lock:
            return [parked for parked in self._parked.values() if parked.asked.max_tasks > 0]

    def _grant(self, tx: Tx, parked: Parked, lanes: Collection[Lane]) -> Claimed | None:
        asked, answer = parked.asked, None
        with self._lock:
            if self._parked.get(asked.instance_id) is not parked:
                return None
            parked.serving = True  # from here on a time-out waits for the outcome
        try:
            if granted := grant(tx, asked, lanes, self._terms, provisional=True, blame=self._blame):
                answer = Claimed(granted, True, orders_for(tx, asked.instance_id))
        finally:
            if answer is None:
                self._let_go(parked)
        return answer

    def _let_go(self, parked: Parked) -> None:
        with self._lock:
            parked.serving = False
            if parked.leaving:
                self._dismiss(parked)

    def settle(self, answers: list[tuple[Parked, Claimed]], failure: DispatcherError | None) -> None:
        """Answer those that were served: durably, or with what made it fail."""
        with self._lock:
            for parked, answer in answers:
                parked.served, parked.error = answer, failure
                self._forget(parked)
                parked.latch.release()

    def put_back(self, answers: list[tuple[Parked, Claimed]]) -> None:
        """What was granted is undone: they wait on."""
        for parked, _ in answers:
            self._let_go(parked)

    def states(self) -> dict[int, tuple[str, bool]]:
        """What the known instances that wait believe to be ordered of themselves."""
        with self._lock:
            parked = list(self._parked.values())
        return {one.instance: one.asked.orders.said for one in parked if one.instance is not None}

    def hosts(self) -> dict[str, str | None]:
        """The instances that wait, by their secret ids, and what they say of their machines."""
        with self._lock:
            return {instance_id: parked.asked.host for instance_id, parked in self._parked.items()}

    def dismiss_worker(self, worker_id: str) -> None:
        """End the waits of a worker's instances, those that are not known yet as well."""
        with self._lock:
            for parked in [p for p in self._parked.values() if p.asked.worker_id == worker_id]:
                self._dismiss(parked)

    def dismiss_ordered(self, orders: Mapping[int, Orders]) -> None:
        """End the waits of those who do not know their orders yet."""
        with self._lock:
            for parked in list(self._parked.values()):
                new = None if parked.instance is None else orders.get(parked.instance)
                if new is not None and new.differ(parked.asked.orders):
                    self._dismiss(parked)

    def dismiss(self, instances: Collection[int]) -> None:
        """End the waits of these instances: there are new orders for them."""
        with self._lock:
            for parked in [p for p in self._parked.values() if p.instance in instances]:
                self._dismiss(parked)

    def dismiss_dead(self, instance_id: str) -> None:
        """End the wait of an instance that was reported dead."""
        with self._lock:
            if instance_id in self._parked:
                self._dismiss(self._parked[instance_id])
            self._highest.pop(instance_id, None)

    def close(self) -> None:
        """A drain: end all waits, let none begin."""
        with self._lock:
            self._closed = True
            for parked in list(self._parked.values()):
                self._dismiss(parked)

    def _dismiss(self, parked: Parked) -> None:
        if not parked.serving:
            self._forget(parked)
            parked.latch.release()

    def _forget(self, parked: Parked) -> None:
        if self._parked.get(parked.asked.instance_id) is parked:
            del self._parked[parked.asked.instance_id]


class _Served:
    """What one transaction grants to waiting claims (`store/writer.py`: Serving)."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self.answers: list[tuple[Parked, Claimed]] = []

    def settle(self, failure: DispatcherError | None) -> None:
        self._waiting.settle(self.answers, failure)

    def undo(self) -> None:
        self._waiting.put_back(self.answers)
