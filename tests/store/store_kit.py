"""What the store's tests share: a clock that stands still, workers' words in one line each, races, the kinds of store.

A further store joins the suite by one entry in KINDS.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from made_once import empty_queue
from postgres_server import Schemas

from dispatcher.clock import Clock, Now
from dispatcher.errors import Unavailable
from dispatcher.maintenance.pruner import Pruner
from dispatcher.maintenance.reaper import Reaper
from dispatcher.maintenance.scheduler import Scheduler
from dispatcher.model import End, EndedLease, Granted, LeaseName, State, TaskFilter, TaskRow, Upload
from dispatcher.queue import Queue, control
from dispatcher.queue.claim import Claim, Claimed
from dispatcher.queue.death import Death, Recorded
from dispatcher.queue.heartbeat import Answered, Heartbeat
from dispatcher.queue.report import Outcome, Verdict
from dispatcher.queue.submit import Submission
from dispatcher.queue.terms import PROVISIONAL_MS, Terms
from dispatcher.store.base import Store
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.sqlite import SqliteStore
from dispatcher.store.writer import GroupFailed

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
TERMS = Terms()
LEASE_S = TERMS.lease_ms // SECOND
SILENCE_S = TERMS.silence_ms // SECOND
PROVISIONAL_S = PROVISIONAL_MS // SECOND
PATIENCE = 20.0  # no condition waits longer than this
ROUNDS = 25  # of a race between threads

MakeStore = Callable[[Path, Clock], Store]


class FakeClock:
    """Stands still until told; wall and steady time move apart when a test wants it."""

    def __init__(self, wall: int = 1_800_000_000_000, steady: int = 1_700_000_000_000) -> None:
        self.wall, self.steady = wall, steady

    def now(self) -> Now:
        return Now(self.wall, self.steady)

    def forward(self, seconds: float) -> None:
        self.wall += int(seconds * SECOND)
        self.steady += int(seconds * SECOND)


class StoreKind(Protocol):
    """How to open a store, and a number that rises with every commit that wrote something."""

    def make(self, folder: Path, clock: Clock) -> Store:
        """Open the database that belongs to a folder."""
        ...

    def written(self, store: Store) -> int: ...


class SqliteKind:
    """A file in the folder."""

    def make(self, folder: Path, clock: Clock) -> Store:
        return SqliteStore(empty_queue(folder / "queue.db"), clock)

    def written(self, store: Store) -> int:
        return int(store.describe()["wal_bytes"])


class PostgresKind:
    """A schema for each folder."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._urls: dict[Path, str] = {}

    def url(self, folder: Path) -> str:
        """The database that belongs to a folder."""
        if folder not in self._urls:
            self._urls[folder] = self._schemas.lend()
        return self._urls[folder]

    def make(self, folder: Path, clock: Clock) -> Store:
        return PostgresStore(self.url(folder), clock, notify=False)  # right without hints

    def written(self, store: Store) -> int:
        """The next transaction number: every transaction that writes, or only locks a row, takes one."""
        with store.read() as reader:
            return int(reader.db.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()[0])  # type: ignore[attr-defined]


KINDS = ("postgresql", "sqlite")


class Mill:
    """A queue over a store, and short words for what clients and workers say to it."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.queue = Queue(store)
        self.reaper, self.scheduler = Reaper(self.queue), Scheduler(self.queue)
        self._numbers: dict[str, int] = {}
        self._seqs: dict[str, int] = {}

    # clients
    def submit(self, n: int = 1, task_type: str = "noop", **fields: Any) -> list[int]:
        return self.queue.submit([Submission(task_type, fields.pop("data", "{}"), **fields) for _ in range(n)])

    def one(self, **fields: Any) -> int:
        return self.submit(**fields)[0]

    def edit(self, task_id: int, columns: dict[str, Any]) -> bool:
        return self.store.write(lambda tx: control.edit(tx, task_id, columns))

    # workers; a worker is known by one name, its instance is "i-" + that name
    def next_number(self, worker: str) -> int:
        self._numbers[worker] = self._numbers.get(worker, 0) + 1
        return self._numbers[worker]

    def claim(self, worker: str = "ann", max_tasks: int = 1, number: int | None = None, **fields: Any) -> Claimed:
        return self.queue.claim(self.asking(worker, max_tasks, number, **fields))

    def asking(self, worker: str = "ann", max_tasks: int = 1, number: int | None = None, **fields: Any) -> Claim:
        number = self.next_number(worker) if number is None else number
        self._numbers[worker] = max(number, self._numbers.get(worker, 0))
        sets = {key: frozenset(fields.pop(key)) for key in ("task_types", "queues", "labels") if key in fields}
        return Claim(worker, f"i-{worker}", number, max_tasks, **sets, **fields)

    def lease(self, worker: str = "ann", **fields: Any) -> Granted:
        """The task at the head, leased."""
        (granted,) = self.claim(worker, **fields).tasks
        return granted

    def beat(
        self, worker: str = "ann", *leases: Granted, in_flight: Sequence[int] = (), seq: int | None = None, **more: Any
    ) -> Answered:
        self._seqs[worker] = self._seqs.get(worker, 0) + 1
        listed = {str(name(lease)): more.pop("said", None) for lease in leases}
        seq = self._seqs[worker] if seq is None else seq
        return self.queue.heartbeat(Heartbeat(worker, f"i-{worker}", seq, listed, in_flight, **more))

    def told(self, worker: str, lease: Granted) -> str:
        """What a heartbeat that lists this lease is told of it."""
        return self.beat(worker, lease).leases[str(name(lease))]

    def report(self, *outcomes: Outcome, worker: str = "ann") -> list[Verdict]:
        return self.queue.report(outcomes, f"i-{worker}")[0]

    def succeed(self, lease: Granted, result: str = '"done"', upload: Upload | None = None) -> Verdict:
        result_or_none = result if upload is None else None
        return self.report(Outcome(name(lease), End.COMPLETED, result_or_none, upload, run_ms=5))[0]

    def fail(self, lease: Granted, error: str = "it broke") -> Verdict:
        return self.report(Outcome(name(lease), End.FAILED, error=error))[0]

    def give_back(self, lease: Granted, status: End = End.RELEASED, snooze_ms: int = 0) -> Verdict:
        return self.report(Outcome(name(lease), status, snooze_ms=snooze_ms))[0]

    def die(
        self, worker: str, outbox: Sequence[Granted] = (), started: Sequence[Granted] = (), reporter: str = "heir"
    ) -> Recorded:
        lists = (tuple(str(name(lease)) for lease in leases) for leases in (outbox, started))
        recorded = self.queue.report_death(
            self.store.store_id, Death(reporter, f"i-{reporter}", worker, f"i-{worker}", *lists)
        )
        assert recorded is not None
        return recorded

    # time
    def reap(self) -> int:
        """A pass of a reaper that was never away."""
        return self.queue.reap(self.clock.now().steady)[0]

    def expire(self) -> None:
        """Let every live lease run out."""
        self.clock.forward(LEASE_S)
        assert self.reap()

    def become_ready(self) -> int:
        return self.scheduler.run_once(self.clock.now())

    def prune(self, completed_ms: int = 0, failed_ms: int = 0) -> int:
        return Pruner(self.queue, kept_for(completed_ms, failed_ms, failed_ms)).run_once(self.clock.now())

    # what is so
    def row(self, task_id: int) -> TaskRow:
        return self.store.write(lambda tx: tx.tasks([task_id])[task_id])

    def state(self, task_id: int) -> State:
        return self.row(task_id).state

    def ended(self, lease: Granted) -> EndedLease | None:
        return self.store.write(lambda tx: tx.ended([name(lease)]).get(name(lease)))

    def result(self, task_id: int) -> str | None:
        result: str | None = self.queue.task(task_id)["result"]
        return result

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """The kept counts without the zeros."""
        with self.store.read() as reader:
            kept = reader.counts()
        full = {lane: {state: n for state, n in numbers.items() if n} for lane, numbers in kept.items()}
        return {lane: numbers for lane, numbers in full.items() if numbers}

    def all_tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = self.queue.tasks(TaskFilter(), after, 500)
            found += page
            if len(page) < 500:
                return found
            after = page[-1]["task_id"]


def kept_for(completed_ms: int, failed_ms: int, cancelled_ms: int) -> dict[State, int]:
    """What the pruner is told."""
    return {State.COMPLETED: completed_ms, State.FAILED: failed_ms, State.CANCELLED: cancelled_ms}


def name(lease: Granted) -> LeaseName:
    return LeaseName(lease.task_id, lease.token)


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition, with a deadline; what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)
    return found


class Later:
    """A call in a thread of its own, and what became of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._answer: Any = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._answer = call()
        except BaseException as error:  # handed to whoever asks for the answer
            self.error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def answer(self) -> Any:
        self._thread.join(PATIENCE)
        assert self.done, "it still hangs"
        if self.error is not None:
            raise self.error
        return self._answer


def waiting(mill: Mill, worker: str = "ann", max_tasks: int = 1, **fields: Any) -> Later:
    """A claim that waits; returns when it is parked."""
    fields.setdefault("wait_ms", int(PATIENCE * SECOND))
    asked = mill.asking(worker, max_tasks, **fields)
    later = Later(lambda: mill.queue.claim(asked))
    until(lambda: later.done or any(p.asked is asked for p in list(mill.queue.waiting._parked.values())))
    return later


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at the same moment in threads; their answers."""
    barrier = threading.Barrier(len(calls))

    def started(call: Callable[[], Any]) -> Any:
        barrier.wait(PATIENCE)
        return call()

    return [later.answer() for later in [Later(lambda call=call: started(call)) for call in calls]]


@contextmanager
def held_up(store: Store) -> Iterator[None]:
    """The writer stands still inside a transaction, so that operations of other threads share the next one."""
    reached, go = threading.Event(), threading.Event()

    def stand(_: Any) -> None:
        reached.set()
        assert go.wait(PATIENCE)

    blocker = Later(lambda: store.write(stand))
    assert reached.wait(PATIENCE)
    try:
        yield
    finally:
        go.set()
        blocker.answer()


@contextmanager
def failing_commits(store: Any) -> Iterator[None]:
    """Every COMMIT of the store's writing session fails."""
    session = store._writer._session
    commit = session.commit

    def refuse() -> None:
        raise GroupFailed(Unavailable("the disk is away"))

    session.commit = refuse
    try:
        yield
    finally:
        session.commit = commit
