"""Every row arrives as it was, whatever is in it and whatever goes on meanwhile."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from move_kit import ask, move, of_database, of_file, without_times
from psycopg import errors

from dispatcher.clock import Now, SystemClock
from dispatcher.errors import Unavailable
from dispatcher.maintenance.reaper import Reaper
from dispatcher.maintenance.waker import ALONE_S, SHARED_S, Waker
from dispatcher.model import FINAL, End, LeaseName, State
from dispatcher.move import capture, checksums, mover, tables
from dispatcher.move.errors import CannotMove
from dispatcher.move.mover import Mover
from dispatcher.move.source import Source
from dispatcher.move.target import Target
from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.queue.report import Outcome
from dispatcher.queue.retention import due, prune
from dispatcher.queue.submit import Submission
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.sqlite import SqliteStore

BIG = 2**62
ODD = 'ünï — 漢字 🦀 \x7f \\N \\. \t\r\n "quoted" '
BYTES = bytes(range(256)) + b"\0\0"
RECOUNT = """INSERT INTO counts SELECT lane_id, state, count(*) FROM tasks GROUP BY 1, 2
    UNION ALL SELECT lane_id, 'ready', count(*) FROM tasks WHERE ready GROUP BY 1"""


def _task(number: int, state: str) -> dict[str, Any]:
    """A row of this state, with numbers as large and small as they may be."""
    row = {"id": number, "lane_id": 1 + number % 2, "state": state, "priority": -(2**31) + number, "run_at": -5,
           "attempts": 2, "max_attempts": 1000, "generation": BIG, "timeout_ms": None, "created_at": 1,
           "ready": 0, "started_at": None}  # fmt: skip
    if state == "pending":
        row |= {"ready": number % 2, "timeout_ms": 2**53}
    if state in FINAL:
        row |= {"finished_at": 2**45 + number, "cancel_requested_at": 7}
    if state in ("in_progress", "completed"):
        row |= {"lease": BIG + number, "lease_instance": 1, "started_at": 3}
    if state == "in_progress":
        row |= {"lease_expires": 1000, "lease_length": 120_000, "lease_request": BIG, "lease_misses": 1}
        row |= {"lease_provisional": number % 2}
    return row


def _fill(db: apsw.Connection) -> None:
    db.execute("INSERT INTO lanes VALUES (1, 'default', 'noop', '[]'), (2, 'ö', 'x', '[\"gpu\"]')")
    rows: list[tuple[str, tuple[Any, ...]]] = [
        ("instances", (1, None, "classic", 1, 2, 0, 0, None, None, None, None)),
        ("instances", (2, "f" * 32, ODD, 1, 2, BIG, BIG, 9, '{"pid": 1}', '{"labels": []}', "stop_now")),
        ("worker_orders", (ODD, "quiet", BIG)),
        ("task_output", (3, "{}", '["a"]', BIG, 2)),
        ("task_output", (4, None, None, None, 0)),
        ("task_tags", (ODD, 1)),
        ("task_tags", ("", 1)),
        ("idempotency_keys", (ODD, 1, BYTES, 5, 0)),
        ("idempotency_keys", ("", 99, b"", 5, 1)),
        ("results", (4, None, None, None)),
        ("results", (6, None, 7, BYTES)),
        ("results", (5, ODD * 1000, BIG, None)),
        ("uploads", (4, BIG, 258, "ab", "image/png")),
        ("upload_parts", (4, BIG, 0, BYTES, 9000, BIG)),
        ("upload_parts", (4, BIG, 1, b"", None, BIG)),
        ("upload_parts", (4, 1, 0, b"\0" * 2**20, None, 0)),
        ("upload_trash", (4, 1)),
        ("upload_trash", (5, BIG)),
        ("retention", ("*", "completed", 60)),
        ("retention", ("q.1", "failed", 0)),
        ("queues", (ODD, 1, 2, 3, 4, 5, 6, 7, BIG, -9, 10, 60_000)),
        ("queues", ("ö", 0, None, None, None, None, None, None, None, None, None, None)),
        ("key_rates", ("ö", ODD, BIG, 2**45)),
        ("key_rates", (ODD, "", 0, None)),
        ("task_keys", (1, "ö", ODD, "held", -(2**31), -5)),
        ("progress", (3, 0.1, 1e300, ODD, "{}", 1, BIG)),
        ("progress", (4, None, None, None, None, 1, None)),
        ("progress", (5, -0.5, 2.0, "", "", 1, 0)),
        ("ended_leases", (1, 1, BIG, 1, 1, 1, "failed", 1, 1, 2, ODD, 1)),
        ("ended_leases", (9, 1, -1, 1, 2, 1, "expired", 0, 1, 2, None, 0)),
        ("task_types", ("noop", None, 1, None)),
        ("task_types", ("x", '{"type": "object"}', 1, '{"max_attempts": 4}')),
        ("deadlines", (3, "wait", 1, 2**45, 60_000, 0)),
        ("deadlines", (3, "total", BIG, 2**45, 1, 1)),
        ("blames", ("lab-3", "x", 2**45, ODD)),
        (
            "schedules",
            ("a", "0 3 * * *", "UTC", None, "skip", 0, "{}", ODD, BIG, None, None, None, 1, 2, None, None, None),
        ),
        ("schedules", (ODD, None, "UTC", BIG, "all", 1, "{}", "{}", None, 5, BIG, ODD, 1, 2, 3, BIG, ODD)),
        ("unique_keys", (ODD, 1, BIG)),
        ("history", (10, BIG, ODD, "{}")),
        ("webhooks", ("msg_1", 1, "https://hooks.example/" + ODD, ODD, 3, BIG, ODD)),
    ]
    for number, state in enumerate([s.value for s in State] * 2, 1):
        row = _task(number, state)
        db.execute(f"INSERT INTO tasks ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        tags, options = None if number % 3 else '["a"]', None if number % 5 else '{"memory_mb": 64}'
        rows.append(("task_data", (number, ODD if number % 2 else "{}", tags, options)))
    for table, values in rows:
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    db.execute("UPDATE sqlite_sequence SET seq = 5000 WHERE name = 'tasks'")  # the highest were pruned
    db.execute(RECOUNT)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "full.db")) as made:
        made.write(lambda tx: _fill(tx.db))
    with closing(SqliteStore(tmp_path / "full.db")) as made:  # which knows what it holds
        yield made


def test_every_table_arrives_as_it_was(full: SqliteStore, database: str) -> None:
    before = of_file(full.path)
    assert all(before.values()), "a table that this test does not fill"
    progress = move(full, database)
    arrived = of_database(database, full.path)
    assert without_times(arrived, full.path) == without_times(before, full.path)
    assert progress.verified == sum(map(len, before.values()))
    assert of_file(full.path) == before


def test_the_queue_goes_on_with_its_name_its_counts_and_its_ids(full: SqliteStore, database: str) -> None:
    with full.read() as reader:
        counts = reader.counts()
    move(full, database)
    with closing(PostgresStore(database)) as moved:
        assert moved.store_id == full.store_id
        with moved.read() as after:
            assert after.counts() == counts
        queue = Queue(moved)
        assert queue.submit([Submission("noop", "{}")]) == [5001]
        assert queue.submit([Submission("brand-new", "{}")]) == [5002]  # with a new lane
        with moved.read() as after:
            assert after.counts()[("default", "brand-new")] == {"pending": 1, "ready": 1}
        assert moved.write(lambda tx: tx.meet("e" * 32, "w")).id == 3
    assert ask(database, "SELECT key FROM meta WHERE key LIKE 'moving%'") == []


def test_every_live_lease_has_its_full_length_anew_on_the_databases_clock(full: SqliteStore, database: str) -> None:
    move(full, database)
    left = ask(
        database,
        "SELECT lease_expires - extract(epoch FROM now()) * 1000 FROM tasks WHERE lease_expires IS NOT NULL",
    )
    assert len(left) == 2
    assert all(100_000 < row[0] <= 121_000 for row in left)


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM task_data WHERE task_id = 3",
        "INSERT INTO task_tags VALUES ('more', 3)",
        "UPDATE tasks SET lease = lease + 1 WHERE id = 3",
        "UPDATE tasks SET priority = CASE id WHEN 3 THEN priority + 2 ELSE priority - 2 END WHERE id IN (3, 5)",
        "UPDATE tasks SET lease_provisional = NOT lease_provisional WHERE id = 3",
        "UPDATE results SET body = body || 'x' WHERE task_id = 5",
        "UPDATE upload_parts SET data = data || 'x' WHERE part = 1",
    ],
)
def test_a_row_that_differs_in_the_end_is_found(
    full: SqliteStore, database: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm_and_verify(self: Mover) -> None:
        ask(database, f"{harm} RETURNING 1")
        verify(self)

    verify = Mover._verify
    monkeypatch.setattr(Mover, "_verify", harm_and_verify)
    with pytest.raises(CannotMove, match=r"rows here and|checksums of"):
        move(full, database)
    assert Queue(full).submit([Submission("noop", "{}")]) == [5001]


def test_both_databases_compute_the_same_sums(full: SqliteStore, database: str) -> None:
    move(full, database)
    target = Target(database)
    with closing(target), closing(Source(full.path, None)) as source:
        target.tables = tables.fitted(source.tables, target.run(_types))
        for table in target.tables:
            ours = source.db.execute(checksums.of_source(table)).fetchone()
            theirs = target.run(lambda db, table=table: db.execute(checksums.of_target(table)).fetchone())  # type: ignore[misc]
            if table.name == "tasks":  # but for the times of leases
                at = 1 + table.columns.index("lease_expires")
                ours, theirs = ours[:at] + ours[at + 1 :], theirs[:at] + theirs[at + 1 :]
            assert tuple(map(int, ours)) == tuple(map(int, theirs)), table.name


def _types(db: Any) -> dict[str, dict[str, str]]:
    from dispatcher.move import target

    return target._types(db)


class _Busy:
    """Does everything to a queue, at random, until it is told to stop; a store that moves refuses."""

    def __init__(self, queue: Queue, seed: int) -> None:
        self.queue, self.random = queue, random.Random(seed)
        self.stop, self.done = threading.Event(), 0
        self.held: list[LeaseName] = []
        self.requests = 0
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self.stop.wait(0.001):
                self.random.choice([self._submit, self._claim, self._report, self._cancel, self._retry, self._prune])()
                self.done += 1
        except BaseException as error:
            self.error = error

    def _submit(self) -> None:
        n = self.random.randrange(1, 20)
        self.queue.submit([Submission("noop", "{}", tags=("a", "b"), key=f"{self.random.random()}") for _ in range(n)])

    def _claim(self) -> None:
        self.requests += 1
        asked = Claim("w-1", "d" * 32, self.requests, 10)
        self.held += [LeaseName(task.task_id, task.token) for task in self.queue.claim(asked).tasks]

    def _report(self) -> None:
        if self.held:
            name = self.held.pop(self.random.randrange(len(self.held)))
            how = self.random.choice([End.COMPLETED, End.FAILED, End.RELEASED])
            self.queue.report([Outcome(name, how, '{"x": 1}' if how == End.COMPLETED else None)], "d" * 32)

    def _some(self) -> list[int]:
        return [self.random.randrange(1, 1500) for _ in range(5)]

    def _cancel(self) -> None:
        self.queue.cancel(self._some())

    def _retry(self) -> None:
        self.queue.retry(self._some())

    def _prune(self) -> None:
        store = self.queue.store
        for lane in due(store, 2**60, {State.COMPLETED: 0}):
            store.write(lambda tx, lane=lane: prune(tx, lane, 3))  # type: ignore[misc]
        self.queue.prune_leftovers(2**60, 3)


def test_what_changes_meanwhile_arrives_as_it_is_in_the_end(store: SqliteStore, database: str) -> None:
    queue = Queue(store)
    queue.submit([Submission("noop", "{}", tags=("x",), key=f"k{n}") for n in range(1500)])
    busy = _Busy(queue, 1)
    busy.thread.start()
    try:
        progress = move(store, database)
    finally:
        busy.stop.set()
        busy.thread.join()
    assert "moving" in str(busy.error)  # it was at work up to the freeze
    assert progress.changes > 100
    assert without_times(of_database(database, store.path), store.path) == without_times(
        of_file(store.path), store.path
    )


def test_a_move_that_is_stopped_goes_on_where_it_was(
    store: SqliteStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(store)
    queue.submit([Submission("noop", "{}") for _ in range(5000)])
    put, batches = Target.put, list[int]()

    def count(self: Target, pieces: list[tables.Piece], mark: tuple[str, str]) -> None:
        if mark[0] != "moving_seq":
            batches.append(len(pieces[0].rows))
        put(self, pieces, mark)

    monkeypatch.setattr(Target, "put", count)
    with pytest.raises(CannotMove, match="stopped before the switch"):
        move(store, database, lambda: len(batches) >= 4)
    queue.cancel(list(range(1, 500)))
    queue.submit([Submission("noop", "{}")])
    assert sum(batches) < 5000
    monkeypatch.setattr(mover, "FREE_ROUNDS", 0)  # and with a writer that has to wait for the changes to be followed
    progress = move(store, database)
    assert progress.note == "taken up where it was interrupted"
    assert sum(batches) <= 1 + 2 * 5002
    assert of_database(database, store.path) == of_file(store.path)


def test_what_an_earlier_move_left_is_not_trusted_when_the_log_is_another(store: SqliteStore, database: str) -> None:
    """As after a restore: the file is of another time than the rows in the target."""
    queue = Queue(store)
    queue.submit([Submission("noop", "{}") for _ in range(1000)])
    counted = iter(range(100))
    with pytest.raises(CannotMove, match="stopped"):
        move(store, database, lambda: next(counted) > 2)
    store.write(lambda tx: tx.db.execute("UPDATE meta SET value = 'other' WHERE key = 'move_capture'"))
    store.write(lambda tx: tx.db.execute("DROP TRIGGER move_tasks_update"))
    queue.cancel([1, 2, 3])
    assert move(store, database).note == ""
    assert of_database(database, store.path) == of_file(store.path)


def test_what_fails_by_chance_is_done_again(full: SqliteStore, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is rolled back by chance, and one whose answer is lost after its COMMIT."""
    run, chance, failed = Target._run, random.Random(7), list[str]()

    def unlucky(self: Target, step: Callable[[Any], Any]) -> Any:
        if self.patience_s and chance.random() < 0.2:
            failed.append("before")
            raise errors.SerializationFailure("by chance")
        answer = run(self, step)
        if self.patience_s and chance.random() < 0.2:
            failed.append("after")
            raise errors.AdminShutdown("cut")
        return answer

    monkeypatch.setattr(Target, "_run", unlucky)
    monkeypatch.setattr("dispatcher.move.target.PAUSE_S", 0.01)
    before = of_file(full.path)
    move(full, database)
    assert {"before", "after"} <= set(failed)
    assert without_times(of_database(database, full.path), full.path) == without_times(before, full.path)
    with closing(PostgresStore(database)) as moved, moved.read() as reader, full.read() as former:
        assert reader.counts() == former.counts()


def test_a_change_log_that_ran_full_is_not_trusted(
    store: SqliteStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops by itself: a move that nobody takes up does not fill the disk."""
    monkeypatch.setattr(capture, "ROOM", capture.ROOM.replace(str(capture.MOST), "50"))
    queue = Queue(store)
    queue.submit([Submission("noop", "{}") for _ in range(2000)])
    counted = iter(range(100))
    with pytest.raises(CannotMove, match="stopped"):
        move(store, database, lambda: next(counted) > 2)
    queue.cancel(list(range(1, 500)))
    assert store.write(lambda tx: tx.db.execute("SELECT count(*) FROM move_changes").get) == 51
    assert move(store, database).note == ""
    assert of_database(database, store.path) == of_file(store.path)


def test_the_reaper_ends_nothing_because_the_clock_is_another(tmp_path: Path, database: str) -> None:
    with closing(SqliteStore(tmp_path / "ahead.db", _Ahead())) as store:
        queue = Queue(store)
        reaper = Reaper(queue)
        queue.submit([Submission("noop", "{}")])
        queue.claim(Claim("w-1", "d" * 32, 1, 1))
        reaper.run_once(queue.now())
        move(store, database)
        with closing(PostgresStore(database)) as moved:
            queue.adopt(moved)
            assert reaper.run_once(queue.now()) == 0
            assert queue.task(1)["status"] == "in_progress"
            assert reaper._last is not None
            assert abs(reaper._last - queue.now().steady) < 60_000


def test_the_waker_looks_often_once_the_store_is_shared(tmp_path: Path, database: str) -> None:
    with closing(SqliteStore(tmp_path / "alone.db")) as store:
        queue = Queue(store)
        waker, looked = Waker(queue), list[float]()
        queue.on_news(lambda: looked.append(waker.pause()))  # as the loop does, which is hurried so
        move(store, database)
        assert (waker.pause(), looked) == (ALONE_S, [])
        with closing(PostgresStore(database)) as moved:
            queue.adopt(moved)
            assert looked == [SHARED_S]


class _Ahead:
    """A clock that is a year ahead."""

    def now(self) -> Now:
        real = SystemClock().now()
        return Now(real.wall, real.steady + 365 * 86_400_000)


def test_nothing_of_the_dry_run_stays(full: SqliteStore, database: str) -> None:
    before = full.path.read_bytes()
    progress = move(full, database, dry_run=True)
    assert progress.phase == "checked"
    assert progress.note == "is empty"
    assert progress.rows["tasks"] == 12
    assert full.path.read_bytes() == before
    assert ask(database, "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema()") == []


def test_the_freeze_waits_for_what_was_accepted_and_refuses_the_rest(store: SqliteStore) -> None:
    order: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def slow(tx: Any) -> None:
        begun.set()
        assert go.wait(10)
        order.append("accepted")

    accepted = threading.Thread(target=lambda: store.write(slow))
    accepted.start()
    assert begun.wait(10)
    freezing = threading.Thread(target=lambda: (store.writer.freeze("it moves"), order.append("frozen")))
    freezing.start()
    refused = _until_refused(lambda: store.write(lambda tx: None), go)
    accepted.join()
    freezing.join()
    assert order == ["accepted", "frozen"]
    assert "it moves" in refused
    store.writer.thaw()
    assert store.write(lambda tx: 7) == 7


def _until_refused(write: Callable[[], Any], go: threading.Event) -> str:
    timer = threading.Timer(0.3, go.set)
    timer.start()
    try:
        while True:
            write()
    except Unavailable as error:
        return str(error)
    finally:
        timer.join()
