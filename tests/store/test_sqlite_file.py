"""What is about the file: lock, schema, corruption, network file systems, kills, a full disk (faults B-1)."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest
from full_disk import FullDisk
from store_kit import FakeClock, Later, Mill, until, waiting

from common import file_systems
from dispatcher.errors import CannotOpen, StorageFull, Unavailable
from dispatcher.model import Orders
from dispatcher.store.sqlite import SqliteStore, migrations
from dispatcher.store.sqlite.attempts import SUCCEEDED
from dispatcher.store.sqlite.bulk import UNTAG
from dispatcher.store.sqlite.integrity import FRESH_S, Examiner
from dispatcher.store.sqlite.leases import HEAD
from dispatcher.store.sqlite.store import READERS

ROOT = Path(__file__).resolve().parents[2]
NEWEST = migrations.steps()[-1][0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def sqlite(path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
    made = SqliteStore(path, clock)
    yield made
    made.close()


def fill(path: Path, n: int = 50) -> list[int]:
    """A store that was used and closed."""
    clock = FakeClock()
    store = SqliteStore(path, clock)
    ids = Mill(store, clock).submit(n, data='{"text": "' + "x" * 500 + '"}')
    store.close()
    return ids


# --- opening


def test_second_dispatcher_is_refused(sqlite: SqliteStore, path: Path) -> None:
    with pytest.raises(CannotOpen, match="in use by another dispatcher"):
        SqliteStore(path)
    assert Mill(sqlite, FakeClock()).one() == 1


def test_second_dispatcher_in_another_process_is_refused(sqlite: SqliteStore, path: Path) -> None:
    code = f"""
        from pathlib import Path
        from dispatcher.errors import CannotOpen
        from dispatcher.store.sqlite import SqliteStore
        try:
            SqliteStore(Path({str(path)!r}))
        except CannotOpen as error:
            print(error)
    """
    assert "in use by another dispatcher" in run(code).stdout


def run(code: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=check)


def test_refusal_leaves_the_lock_with_its_holder(sqlite: SqliteStore, path: Path) -> None:
    for _ in range(2):
        with pytest.raises(CannotOpen):
            SqliteStore(path)


def test_lock_is_free_after_close_and_after_a_failed_start(path: Path) -> None:
    path.write_bytes(b"this is no database, however long it may be" * 100)
    with pytest.raises(CannotOpen):
        SqliteStore(path)
    path.unlink()
    for _ in range(2):
        SqliteStore(path).close()


def test_newer_schema_is_refused(path: Path) -> None:
    fill(path)
    db = apsw.Connection(str(path))
    db.pragma("user_version", 999)
    db.close()
    with pytest.raises(CannotOpen, match=r"schema 999, newer than this program's \d+: upgrade"):
        SqliteStore(path)


def test_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(os.urandom(8192))
    with pytest.raises(CannotOpen, match="corrupt") as caught:
        SqliteStore(path)
    assert "\n" not in str(caught.value)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    page = 4096
    for start in range(5 * page, len(data) - page, page):
        data[start : start + 64] = b"\xa5" * 64
    path.write_bytes(bytes(data))


def test_damaged_page_is_found(path: Path) -> None:
    fill(path, 400)
    damage(path)
    with pytest.raises(CannotOpen, match="corrupt"):
        SqliteStore(path)


def test_a_file_is_looked_at_while_it_is_worked_on(path: Path) -> None:
    store = SqliteStore(path)
    clock = FakeClock()
    now = [100.0]
    examiner = Examiner(path, clock=lambda: now[0])
    assert examiner.look() == ("ok", 0.0)
    Mill(store, clock).submit(1000)
    assert Examiner(path, look_s=-1).look().found is None, "there was no time"
    store.close()
    damage(path)
    assert examiner.look().found == "ok", "not again within a minute"
    now[0] += FRESH_S
    assert "ok" not in (examiner.look().found or "")
    path.unlink()
    assert Examiner(path).look().found is None, "nothing is known of its pages"


def test_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "kind_of", lambda folder: "nfs4" if folder == path.parent else "ext4")
    with pytest.raises(CannotOpen, match="lies on a network file system"):
        SqliteStore(path)
    assert not path.exists()


def test_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotOpen, match="cannot be opened"):
        SqliteStore(tmp_path / "file" / "queue.db")


def test_file_is_for_its_owner_only(sqlite: SqliteStore, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_sqlite_is_recent_enough(sqlite: SqliteStore) -> None:
    """Versions before 3.51.3 carry the WAL-reset race."""
    version = sqlite.describe()["sqlite_version"]
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)


# --- settings


def pragma(sqlite: SqliteStore, name: str) -> object:
    return sqlite.write(lambda tx: tx.db.pragma(name))


def test_writer_is_durable(sqlite: SqliteStore) -> None:
    """I1: synchronous=FULL in WAL."""
    assert (pragma(sqlite, "journal_mode"), pragma(sqlite, "synchronous")) == ("wal", 2)
    assert pragma(sqlite, "auto_vacuum") == 2


def test_readers_cannot_write_and_never_checkpoint(sqlite: SqliteStore) -> None:
    with sqlite.read() as reader:
        assert (reader.db.pragma("query_only"), reader.db.pragma("wal_autocheckpoint")) == (1, 0)
        with pytest.raises(apsw.ReadOnlyError):
            reader.db.execute("DELETE FROM tasks")


def test_reader_sees_one_moment(sqlite: SqliteStore, clock: FakeClock) -> None:
    mill = Mill(sqlite, clock)
    with sqlite.read() as reader:
        assert reader.task(1) is None
        mill.one()
        assert reader.task(1) is None
    with sqlite.read() as reader:
        assert reader.task(1)


def test_readers_are_given_back_after_errors(sqlite: SqliteStore) -> None:
    for _ in range(READERS * 2):
        with pytest.raises(ZeroDivisionError), sqlite.read():
            raise ZeroDivisionError
    with sqlite.read() as reader:
        assert reader.live_leases() == 0


def test_closed_store_answers_at_once(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    store.close()
    for _ in range(2):
        with pytest.raises(Unavailable), store.read():
            pass
    with pytest.raises(Unavailable):
        store.write(lambda tx: None)


IMPOSSIBLE = [
    "state = 'pending', ready = 0, lease_expires = 5, lease_length = 5",
    "state = 'in_progress', ready = 0",
    "state = 'in_progress', ready = 0, lease = 1, lease_instance = 1",
    "state = 'in_progress', ready = 1, lease = 1, lease_instance = 1, lease_expires = 1, lease_length = 1",
    "state = 'in_progress', ready = 0, lease = 1, lease_expires = 1, lease_length = 1",
    "state = 'in_progress', ready = 0, lease = 1, lease_instance = 1, lease_expires = 1",
    "state = 'completed', ready = 0",
    "state = 'completed', ready = 0, finished_at = 5",
    "state = 'completed', ready = 0, lease = 1, lease_instance = 1",
    "state = 'failed', ready = 0",
    "state = 'failed', ready = 0, finished_at = 5, lease = 1, lease_instance = 1",
    "state = 'cancelled', ready = 1, finished_at = 5",
    "finished_at = 5",
    "ready = 2",
    "state = 'blocked'",
    "state = 'nonsense', ready = 0",
    "attempts = -1",
    "attempts = 4",
    "max_attempts = 0",
    "priority = 'high'",
    "run_at = 'now'",
    "lease_provisional = 1",
    "lease_misses = 1",
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_impossible_rows_are_refused(sqlite: SqliteStore, clock: FakeClock, change: str) -> None:
    mill = Mill(sqlite, clock)
    task_id = mill.one(max_attempts=3)
    before = mill.row(task_id)
    with pytest.raises(apsw.ConstraintError):
        sqlite.write(lambda tx: tx.db.execute(f"UPDATE tasks SET {change}"))
    assert mill.row(task_id) == before


def test_no_statement_is_planned_anew_for_its_values(sqlite: SqliteStore) -> None:
    writer = sqlite.write(lambda tx: tx.db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1))
    with sqlite.read() as reader:
        assert writer == reader.db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1


def test_every_table_is_strict(sqlite: SqliteStore) -> None:
    sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite_%'"
    loose = sqlite.write(lambda tx: tx.db.execute(sql).fetchall())
    assert loose == []


def plan(sqlite: SqliteStore, sql: str) -> str:
    return sqlite.write(lambda tx: "; ".join(row[3] for row in tx.db.execute(f"EXPLAIN QUERY PLAN {sql}")))


def test_claims_read_the_index_of_what_can_be_taken(sqlite: SqliteStore) -> None:
    assert "tasks_ready" in plan(sqlite, HEAD.replace("?", "1"))
    assert "TEMP B-TREE" not in plan(sqlite, HEAD.replace("?", "1"))


@pytest.mark.parametrize("sql", [SUCCEEDED, UNTAG])
def test_what_stands_beside_a_long_history_is_looked_up(sqlite: SqliteStore, sql: str) -> None:
    """A scan of everything that ever completed, or of all tags, would hold up the writer."""
    found = plan(sqlite, sql.replace("?1", "1").replace("?", "1"))
    assert "SCAN tasks" not in found
    assert "SCAN task_tags" not in found
    assert "TEMP B-TREE FOR ORDER BY" not in found
    by_lane, by_tag = "tasks_ended (state=? AND lane_id=? AND finished_at>?)", "PRIMARY KEY (tag=? AND task_id=?)"
    assert by_lane in found or by_tag in found


# --- migrations


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds all migrations, for more to come."""
    folder = tmp_path / "sql"
    folder.mkdir()
    for path in migrations.FOLDER.glob("*.sql"):
        shutil.copy(path, folder)
    monkeypatch.setattr(migrations, "FOLDER", folder)
    return folder


def columns(path: Path) -> tuple[int, set[str]]:
    db = apsw.Connection(str(path))
    found = {row[0] for row in db.execute("SELECT name FROM pragma_table_info('tasks')")}
    version = db.pragma("user_version")
    db.close()
    return version, found


def step(folder: Path, further: int, name: str, sql: str) -> None:
    """One more migration behind the newest."""
    (folder / f"{NEWEST + further:04}_{name}.sql").write_text(sql)


def test_old_file_is_upgraded_in_place(path: Path, steps: Path) -> None:
    ids = fill(path)
    assert columns(path)[0] == NEWEST
    (steps / f"{NEWEST + 1:04}_colour.sql").write_text(
        "ALTER TABLE tasks ADD COLUMN colour TEXT;\nUPDATE tasks SET colour = 'red'"
    )
    (steps / f"{NEWEST + 2:04}_shape.sql").write_text(
        "-- a remark at the end\nALTER TABLE tasks ADD COLUMN shape TEXT; -- so"
    )
    clock = FakeClock()
    for _ in range(2):
        store = SqliteStore(path, clock)
        assert sorted(task["task_id"] for task in Mill(store, clock).all_tasks()) == ids
        store.close()
    version, found = columns(path)
    assert version == NEWEST + 2
    assert {"colour", "shape"} <= found


@contextmanager
def before(step: int, path: Path, steps: Path) -> Iterator[apsw.Connection]:
    """A connection to a new file as it was before a migration."""
    for later in sorted(steps.glob("*.sql"))[step - 1 :]:
        later.rename(later.with_suffix(".later"))
    SqliteStore(path).close()
    with closing(apsw.Connection(str(path))) as db:
        yield db
    for later in steps.glob("*.later"):
        later.rename(later.with_suffix(".sql"))


def test_orders_of_before_sleep_was_known_are_kept(path: Path, steps: Path) -> None:
    with before(12, path, steps) as db:
        db.execute("INSERT INTO instances (instance_id, worker_id, first_seen_at, seen_at, ordered) "
                   "VALUES ('i-ann', 'ann', 1, 1, 'stop_now'), ('i-bob', 'bob', 1, 1, NULL)")  # fmt: skip
        db.execute("INSERT INTO worker_orders VALUES ('ann', 'quiet', 1)")
    mill = Mill(SqliteStore(path), FakeClock())
    assert mill.beat("ann").orders == Orders("stop", now=True)
    assert mill.beat("bob").orders == Orders()
    assert mill.store.write(lambda tx: tx.remembered("ann")) == "quiet"
    mill.queue.order_worker("ann", "sleep", now=True)
    assert mill.beat("ann").orders == Orders("sleep", now=True)
    mill.store.close()


def test_tasks_of_every_state_pass_the_checks_that_are_told_anew(path: Path, steps: Path) -> None:
    live = "lease = 1, lease_instance = 1, lease_expires = 5, lease_length = 5, lease_request = 1, lease_misses = 1"
    states = ("", "ready = 1", "held = 1", "state = 'blocked'", f"state = 'in_progress', {live}",
              "state = 'completed', finished_at = 5, lease = 1, lease_instance = 1",
              "state = 'failed', finished_at = 5", "state = 'cancelled', finished_at = 5")  # fmt: skip
    with before(14, path, steps) as db:
        for task_id, state in enumerate(states, 1):
            db.execute("INSERT INTO tasks (lane_id, state, priority, run_at, max_attempts, created_at) "
                       "VALUES (1, 'pending', 0, 5, 3, 5)")  # fmt: skip
            db.execute(f"UPDATE tasks SET {state} WHERE id = {task_id}" if state else "SELECT 1")
        old = db.execute("SELECT * FROM tasks ORDER BY id").fetchall()
    SqliteStore(path).close()
    with closing(apsw.Connection(str(path))) as db:
        assert db.execute("SELECT * FROM tasks ORDER BY id").fetchall() == old
        assert db.pragma("integrity_check") == "ok"
        assert "CASE state" in db.execute("SELECT sql FROM sqlite_schema WHERE name = 'tasks'").get


def test_step_that_fails_leaves_the_one_before(path: Path, steps: Path) -> None:
    fill(path)
    step(steps, 1, "good", "ALTER TABLE tasks ADD COLUMN colour TEXT")
    (steps / f"{NEWEST + 2:04}_bad.sql").write_text(
        "ALTER TABLE tasks ADD COLUMN shape TEXT; SELECT no_such_function()"
    )
    with pytest.raises(CannotOpen):
        SqliteStore(path)
    version, found = columns(path)
    assert version == NEWEST + 1
    assert "colour" in found
    assert "shape" not in found


def test_kill_in_the_middle_of_a_step_leaves_a_whole_one(path: Path, steps: Path) -> None:
    ids = fill(path)
    step(steps, 1, "good", "ALTER TABLE tasks ADD COLUMN colour TEXT")
    killing = "UPDATE tasks SET shape = die(id)"
    step(steps, 2, "killed", f"ALTER TABLE tasks ADD COLUMN shape TEXT; {killing}; ALTER TABLE tasks ADD COLUMN z TEXT")
    code = f"""
        import os, signal
        from pathlib import Path
        import apsw
        from dispatcher.store.sqlite import migrations
        migrations.FOLDER = Path({str(steps)!r})
        db = apsw.Connection({str(path)!r})
        db.create_scalar_function("die", lambda id: id < 25 or os.kill(os.getpid(), signal.SIGKILL))
        migrations.migrate(db, "queue.db")
    """
    assert run(code, check=False).returncode == -9
    step(steps, 2, "killed", "ALTER TABLE tasks ADD COLUMN shape TEXT")
    clock = FakeClock()
    store = SqliteStore(path, clock)
    assert sorted(task["task_id"] for task in Mill(store, clock).all_tasks()) == ids
    store.close()
    version, found = columns(path)
    assert version == NEWEST + 2
    assert "z" not in found


# --- threads and kills


def test_no_database_is_locked_with_16_threads(sqlite: SqliteStore, clock: FakeClock) -> None:
    mill = Mill(sqlite, clock)

    def work(worker: str) -> int:
        done = 0
        for _ in range(40):
            mill.one()
            for lease in mill.claim(worker, 2).tasks:
                mill.succeed(lease)
                done += 1
            mill.queue.task(1)
            mill.counts()
        return done

    done = sum(later.answer() for later in [Later(lambda w=f"w{n}": work(w)) for n in range(16)])
    assert done == 16 * 40
    assert mill.counts() == {("default", "noop"): {"completed": 640}}


def test_i1_kill_loses_nothing_acknowledged(path: Path) -> None:
    """The process is killed while four threads submit; every id that was printed is there, once, and counted."""
    code = f"""
        import sys, threading
        from pathlib import Path
        from dispatcher.queue import Queue
        from dispatcher.queue.submit import Submission
        from dispatcher.store.sqlite import SqliteStore
        queue = Queue(SqliteStore(Path({str(path)!r})))
        def submit():
            while True:
                ids = queue.submit([Submission("noop", "{{}}")])
                sys.stdout.write(f"{{ids[0]}}\\n")
                sys.stdout.flush()
        for _ in range(4):
            threading.Thread(target=submit).start()
    """
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(300)]
        process.kill()
        lines += process.stdout.readlines()
    acknowledged = {int(line) for line in lines if line.endswith("\n")}
    clock = FakeClock()
    store = SqliteStore(path, clock)
    mill = Mill(store, clock)
    stored = [task["task_id"] for task in mill.all_tasks()]
    assert acknowledged <= set(stored)
    assert mill.counts() == {("default", "noop"): {"pending": len(stored), "ready": len(stored)}}
    store.close()


# --- a full disk


@pytest.fixture
def disk() -> Iterator[FullDisk]:
    made = FullDisk("full-disk")
    yield made
    made.unregister()


@pytest.fixture
def on_disk(path: Path, clock: FakeClock, disk: FullDisk) -> Iterator[Mill]:
    store = SqliteStore(path, clock, vfs="full-disk")
    yield Mill(store, clock)
    disk.full = False
    store.close()


BULKY = '{"text": "' + "x" * 20_000 + '"}'


def test_i1_full_disk_refuses_and_loses_nothing(on_disk: Mill, disk: FullDisk) -> None:
    kept = on_disk.submit(20, data=BULKY)
    lease = on_disk.lease()
    disk.full = True
    for _ in range(3):
        with pytest.raises(StorageFull):
            on_disk.submit(50, data=BULKY)
    assert disk.refused
    assert [task["task_id"] for task in on_disk.all_tasks()][::-1] == kept
    disk.full = False
    assert on_disk.store.healthy is False
    new = on_disk.submit(5, data=BULKY)
    assert on_disk.store.healthy
    assert min(new) > max(kept)
    assert on_disk.succeed(lease) == "accepted"
    assert on_disk.counts() == {("default", "noop"): {"pending": 24, "ready": 24, "completed": 1}}


def test_full_disk_fails_whoever_shares_the_transaction_and_nobody_hangs(on_disk: Mill, disk: FullDisk) -> None:
    disk.full = True
    submits = [Later(lambda: on_disk.submit(5, data=BULKY)) for _ in range(8)]
    until(lambda: all(later.done for later in submits))
    assert all(isinstance(later.error, StorageFull) for later in submits)
    disk.full = False
    assert on_disk.counts() == {}


def test_full_disk_reaches_the_waiting_claim_that_was_served(on_disk: Mill, disk: FullDisk) -> None:
    later = waiting(on_disk, "ann")
    disk.full = True
    with pytest.raises(StorageFull):
        on_disk.submit(50, data=BULKY)
    with pytest.raises(StorageFull):
        later.answer()
    disk.full = False
    assert len(on_disk.queue.waiting) == 0
    task_id = on_disk.one()
    assert on_disk.lease("ann").task_id == task_id


def test_restart_after_a_full_disk_finds_everything(on_disk: Mill, disk: FullDisk, path: Path) -> None:
    kept = on_disk.submit(10, data=BULKY)
    disk.full = True
    with pytest.raises(StorageFull):
        on_disk.submit(50, data=BULKY)
    on_disk.store.close()
    disk.full = False
    clock = FakeClock()
    store = SqliteStore(path, clock)
    assert sorted(task["task_id"] for task in Mill(store, clock).all_tasks()) == kept
    store.close()


def test_ids_go_on_where_a_repair_by_hand_has_emptied_the_sequences(path: Path, clock: FakeClock) -> None:
    last = fill(path, 3)[-1]
    with closing(apsw.Connection(str(path))) as db:
        db.execute("DELETE FROM sqlite_sequence")
    with closing(SqliteStore(path, clock)) as store:
        assert Mill(store, clock).submit(2) == [last + 1, last + 2]
