"""The database itself in trouble, and what a session demands of it; a server of these tests' own."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from postgres_server import PostgresServer, Schemas, running
from store_kit import PATIENCE, FakeClock, Later, Mill, held_up, name, race, until
from test_postgres_faults import BACK_WITHIN_S, Client

from dispatcher.clock import SystemClock
from dispatcher.errors import CannotOpen, DispatcherError, StorageFull, Unavailable
from dispatcher.model import State
from dispatcher.store.base import Tx
from dispatcher.store.postgres import PostgresStore, connecting, migrations
from dispatcher.store.postgres import session as session_module
from dispatcher.store.postgres.store import READERS
from dispatcher.store.postgres.tx import SPELL_IS_OVER_MS

DURABLE = {"fsync": "on", "full_page_writes": "on"}
LOCK = "SELECT 1 FROM tasks WHERE id = %s FOR UPDATE"
WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running(DURABLE) as made:
        yield made


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    server.wait_until_up()
    made = Schemas(server.url)
    yield made.new()
    made.close()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(url)
    yield made
    made.close()


@pytest.fixture
def mill(store: PostgresStore) -> Mill:
    return Mill(store, FakeClock())


def backend(store: PostgresStore) -> int:
    """The server's process for the writer's session."""
    return int(store.write(lambda tx: tx.ask("SELECT pg_backend_pid()"))[0][0])


def test_killed_backends_lose_nothing(server: PostgresServer, mill: Mill) -> None:
    """kill -9 of one backend: the server ends all sessions and recovers."""
    acknowledged: list[int] = []
    done = threading.Event()

    def submit() -> None:
        while not done.is_set():
            try:
                acknowledged.extend(mill.submit(3))
            except DispatcherError:
                done.wait(0.01)  # as a client would before it tries again

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            enough = len(acknowledged) + 30
            until(lambda enough=enough: len(acknowledged) > enough)
            pid = Client([mill]).insist(lambda mill: backend(mill.store), 0)  # type: ignore[arg-type]
            server.kill_backend(pid)
            until(lambda enough=enough: len(acknowledged) > enough + 30)
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE)
    stored = [task["task_id"] for task in Client([mill]).insist(lambda mill: mill.all_tasks(), 0)]
    assert set(acknowledged) <= set(stored)


def test_restart_of_the_database(server: PostgresServer, mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    server.stop()
    try:
        for call in (lambda: mill.one(), lambda: mill.succeed(lease), lambda: mill.queue.task(task_id)):
            with pytest.raises(Unavailable):
                call()
        assert not mill.queue.is_ready()
    finally:
        server.start()
    began = time.monotonic()
    client = Client([mill])
    assert client.insist(lambda mill: mill.succeed(lease), 0) == "accepted"
    assert client.insist(lambda mill: mill.queue.task(task_id), 0)["status"] == State.COMPLETED
    assert time.monotonic() - began < BACK_WITHIN_S
    assert mill.queue.is_ready()


def test_sessions_of_a_dispatcher_that_stands_still_are_ended(store: PostgresStore) -> None:
    """Stopped inside a transaction it would hold its locks against all the others."""
    shown = store.write(lambda tx: tx.ask("SELECT name, setting FROM pg_settings"))
    settings = dict(shown)
    assert settings["idle_in_transaction_session_timeout"] == str(connecting.IDLE_MS)
    assert settings["lock_timeout"] == str(connecting.LOCK_MS)
    assert settings["statement_timeout"] == str(connecting.STATEMENT_MS)


def test_lock_of_a_stranger_delays_one_report_only(url: str, mill: Mill) -> None:
    mill.submit(2)
    first, second = mill.claim(max_tasks=2).tasks
    with psycopg.connect(url) as stranger:
        stranger.execute(LOCK, [first.task_id])
        began = time.monotonic()
        blocked = Later(lambda: mill.succeed(first))
        with pytest.raises(Unavailable):
            blocked.answer()
        assert mill.succeed(second) == "accepted"
        with pytest.raises(Unavailable):  # known by now to be in vain
            mill.succeed(first)
        assert time.monotonic() - began < 1.5 * connecting.LOCK_MS / 1000
    assert mill.succeed(first) == "accepted"


def test_readers_join_tables_as_written(mill: Mill) -> None:
    """To look for the best order of eight tables takes ten times as long as a page."""
    with mill.store.read() as reader:
        assert reader.db.execute("SHOW join_collapse_limit").fetchone() == ("1",)  # type: ignore[attr-defined]


def test_only_the_first_of_a_group_waits_for_a_stranger(url: str, mill: Mill) -> None:
    mill.submit(5)
    leases = mill.claim(max_tasks=5).tasks

    def write_and_raise(tx: Tx) -> None:
        tx.register_types({"x": None})
        raise ZeroDivisionError

    with psycopg.connect(url) as stranger:
        stranger.execute("SELECT 1 FROM tasks FOR UPDATE")
        with held_up(mill.store):
            group = [Later(lambda: mill.store.write(write_and_raise))]
            group += [Later(lambda lease=lease: mill.succeed(lease)) for lease in leases]  # type: ignore[misc]
            until(lambda: mill.store._writer._calls.qsize() == len(group))  # type: ignore[attr-defined]
            began = time.monotonic()
        for one in group:
            with pytest.raises((Unavailable, ZeroDivisionError)):
                one.answer()
        assert time.monotonic() - began < 2 * connecting.LOCK_MS / 1000


def test_group_that_met_another_waits_for_it_no_more(url: str, mill: Mill) -> None:
    """Both would run again and meet again, a second each time: the server finds out about it no sooner."""
    first, second = mill.submit(2)
    holds, crossed = threading.Event(), threading.Event()

    def lock_both(tx: Tx) -> None:
        tx.tasks([second])
        holds.set()
        crossed.wait(PATIENCE)
        tx.tasks([first])

    with psycopg.connect(url) as stranger, closing(psycopg.connect(url, autocommit=True)) as witness:
        stranger.execute("SET deadlock_timeout = '60 s'")  # it is not the one that gives way
        stranger.execute(LOCK, [first])
        began = time.monotonic()
        ours = Later(lambda: mill.store.write(lock_both))
        assert holds.wait(PATIENCE)
        theirs = Later(lambda: stranger.execute(LOCK, [second]))
        until(lambda: witness.execute(WAITS, [stranger.info.backend_pid]).fetchone() is not None)
        crossed.set()
        with pytest.raises(Unavailable):
            ours.answer()
        assert time.monotonic() - began < 1.5 * connecting.LOCK_MS / 1000
        theirs.answer()
    mill.store.write(lock_both)


def test_readers_that_are_used_up_fail_and_never_hang(mill: Mill) -> None:
    task_id = mill.one()
    with ExitStack() as stack:
        for _ in range(READERS):
            stack.enter_context(mill.store.read())
        later = Later(lambda: mill.queue.task(task_id))
        lease = mill.lease()
        assert mill.succeed(lease) == "accepted", "the writer does not need a reader"
        with pytest.raises(Unavailable, match="no connection"):
            later.answer()
    assert mill.queue.task(task_id)["status"] == State.COMPLETED


def test_time_is_the_databases(url: str, store: PostgresStore) -> None:
    with psycopg.connect(url) as db:
        row = db.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000").fetchone()
    assert row is not None
    assert abs(store.now().wall - float(row[0])) < 200
    now = store.now()
    assert now.wall == now.steady, "leases and display go by the one clock that all dispatchers share"


def test_two_that_start_at_once_both_start(url: str) -> None:
    stores = race(*[lambda: PostgresStore(url) for _ in range(4)])
    assert len({store.store_id for store in stores}) == 1
    for store in stores:
        store.close()


@pytest.mark.parametrize("cut", range(1, len(migrations.steps()[0][1]), 6))
def test_migration_that_was_cut_short_is_run_again(url: str, cut: int) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        for statement in migrations.steps()[0][1][:cut]:
            db.execute(statement)  # type: ignore[call-overload]
    store = PostgresStore(url)
    assert Mill(store, FakeClock()).one() == 1
    store.close()


def test_newer_schema_is_refused(url: str, store: PostgresStore) -> None:
    store.write(lambda tx: tx.changed("UPDATE meta SET value = '99' WHERE key = 'schema'", ()))
    with pytest.raises(CannotOpen, match="schema 99, newer than"):
        PostgresStore(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/db",
        "postgresql://u:secret@nowhere.invalid/db",
        f"postgresql://u:secret@{'a' * 64}/db",
    ],
)
def test_database_that_cannot_be_reached_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(CannotOpen) as refused:
        PostgresStore(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_session_waits_for_the_disk_whatever_the_servers_default(url: str) -> None:
    joint = url.replace("search_path", "synchronous_commit%3Doff%20-csearch_path")
    with psycopg.connect(joint) as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)
    store = PostgresStore(joint)
    assert store.write(lambda tx: tx.ask("SHOW synchronous_commit")) == [("on",)]
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "state = 'done'",
        "ready = true, state = 'cancelled', finished_at = 1",
        "state = 'completed'",
        "state = 'in_progress'",
        "lease = 5",
        "finished_at = 5",
        "attempts = 4",
        "attempts = -1",
        "lease_request = 1",
    ],
)
def test_impossible_rows_are_refused(mill: Mill, change: str) -> None:
    mill.one()
    with pytest.raises(psycopg.errors.CheckViolation):
        mill.store.write(lambda tx: tx.changed(f"UPDATE tasks SET {change}", ()))  # type: ignore[attr-defined]


def test_counts_go_on_through_many_spells(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "COMMITS_OF_A_SPELL", 5)
    for _ in range(23):
        mill.one()
        mill.succeed(mill.lease())
    assert mill.counts()["default", "noop"] == {"completed": 23}
    assert mill.store.write(lambda tx: tx.ask("SELECT count(*) FROM spells")) == [(1,)]  # type: ignore[attr-defined]


def test_counts_of_a_dispatcher_that_is_gone_are_taken_over(url: str, mill: Mill) -> None:
    gone = PostgresStore(url)
    Mill(gone, FakeClock()).submit(3)
    gone.close()
    mill.one()
    mill.store.write(lambda tx: tx.changed("UPDATE spells SET seen_at = seen_at - %s", (SPELL_IS_OVER_MS + 1,)))  # type: ignore[attr-defined]
    mill.queue.prune_leftovers(0, 10)
    mill.queue.prune_leftovers(0, 10)
    mill.one()
    assert mill.counts()["default", "noop"] == {"pending": 5, "ready": 5}
    assert mill.store.write(lambda tx: tx.ask("SELECT count(*) FROM spells")) == [(1,)]  # type: ignore[attr-defined]


def test_dispatcher_that_was_taken_for_gone_counts_on(url: str, mill: Mill) -> None:
    other = Mill(PostgresStore(url), FakeClock())
    mill.submit(3)
    other.one()
    other.store.write(lambda tx: tx.changed("UPDATE spells SET seen_at = 0", ()))  # type: ignore[attr-defined]
    for _ in range(3):
        other.queue.prune_leftovers(0, 10)
    mill.submit(2)
    mill.one()
    assert mill.counts()["default", "noop"] == {"pending": 7, "ready": 7}
    other.store.close()


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own for a server; where none can be mounted, its folder has no limit of its own."""
    folder = Path("/tmp") / f"taskmill-small-{os.getpid()}"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=220m", "taskmill-test", str(folder)], capture_output=True, check=False
    )
    yield folder
    if mounted.returncode == 0:
        subprocess.run(["umount", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_full_disk_of_the_database_heals(small_disk: Path) -> None:
    if not os.path.ismount(small_disk):
        return _full_disk_by_word()
    folder = small_disk / "pg"
    folder.mkdir(mode=0o755)
    small_disk.chmod(0o755)
    server = PostgresServer(folder, {"max_wal_size": "32MB", "min_wal_size": "32MB", "shared_buffers": "16MB"})
    server.start()
    try:
        _fill_and_free(server, small_disk)
    finally:
        server.stop()
    return None


def _full_disk_by_word() -> None:
    """The error alone (the same that a full disk raises) where no small disk can be had: see test_postgres_faults."""
    assert isinstance(connecting.cause(psycopg.errors.DiskFull()), StorageFull)


def _submit_for_ever(mill: Mill, acknowledged: list[int]) -> None:
    for _ in range(200):
        acknowledged += mill.submit(1, data=f'"{os.urandom(200_000).hex()}"')


def _fill_and_free(server: PostgresServer, disk: Path) -> None:
    store = PostgresStore(server.url, SystemClock())
    mill = Mill(store, FakeClock())
    acknowledged = mill.submit(5)
    filler = disk / "filler"
    usage = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, usage.f_bavail * usage.f_frsize - (4 << 20))))
    with pytest.raises(DispatcherError) as refused:
        _submit_for_ever(mill, acknowledged)
    assert refused.value.retry_after
    filler.unlink()
    began = time.monotonic()
    client = Client([mill])
    acknowledged += client.insist(lambda mill: mill.submit(1), 0)
    assert time.monotonic() - began < BACK_WITHIN_S
    stored = {task["task_id"] for task in client.insist(lambda mill: mill.all_tasks(), 0)}
    assert set(acknowledged) <= stored
    store.close()


def test_races_of_names(mill: Mill) -> None:
    """The lease's name is what the store returns: 63 bits that nobody guesses."""
    mill.submit(50)
    tokens = {name(task).token for task in mill.claim(max_tasks=50).tasks}
    assert len(tokens) == 50
    assert all(0 <= token < 2**63 for token in tokens)
    assert sum(token > 2**40 for token in tokens) > 45
