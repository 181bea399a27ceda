"""`taskmill restore`: what a queue promised still holds after it came back from a backup."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_kit import Commands, Worker, make_queue, names, wait_until

from client.testing import LocalCluster
from common.settings import ROOT
from dispatcher.queue.submit import Submission, submit
from dispatcher.queue.terms import Terms
from dispatcher.store.sqlite import SqliteStore, backup, migrations, opening

Farm = Callable[..., LocalCluster]
HANDLERS = Path(__file__).parent / "handlers"
JUMP = backup.ID_JUMP


def change(path: Path, sql: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute(sql)


def contents(path: Path) -> dict[str, int]:
    return backup.inspect(path).tasks


@pytest.fixture
def saved(run: Commands, tmp_path: Path) -> Path:
    """A backup of a queue with ten tasks, two of them leased; the queue itself is gone."""
    make_queue(run.database)
    assert run("backup", tmp_path / "saved").code == 0
    run.database.unlink()
    return tmp_path / "saved"


def aside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if "before-restore" in path.name)


# what it means for workers


def test_leases_results_and_ids_after_a_restore(run: Commands, farm: Farm, tmp_path: Path) -> None:
    cluster = farm()
    run.use(cluster)
    client = cluster.client
    store_id = client.health()["store_id"]
    late, cancelled, taken_back = client.submit_many({"task_type": "noop"} for _ in range(3))
    worker, other = Worker(client.url), Worker(client.url, "2" * 32)
    of_late, of_cancelled = worker.claim(2)
    [of_taken_back] = other.claim()
    client.cancel([cancelled])
    assert run("backup", tmp_path / "b").code == 0
    lost = client.submit("noop")
    [of_lost] = worker.claim()
    cluster.dispatcher.kill()

    said = run("restore", tmp_path / "b", "--force")
    assert said.code == 0, said
    assert "3 leases ended as lost" in said.out
    cluster.start_dispatcher()
    assert cluster.client.health()["store_id"] == store_id
    states = {task_id: cluster.client.task(task_id) for task_id in (late, cancelled, taken_back)}
    assert [states[i]["status"] for i in states] == ["pending", "cancelled", "pending"]
    assert {states[i]["attempts"] for i in states} == {0}, "the attempts were given back"
    [ended] = states[late]["attempts_log"]
    assert (ended["outcome"], ended["counted"], ended["error"]) == (
        "expired",
        False,
        "the queue was restored from a backup",
    )

    assert worker.succeed(of_late["lease_id"], of_lost["lease_id"]) == ["accepted_late", "unknown"]
    assert worker.succeed(of_late["lease_id"], of_cancelled["lease_id"]) == ["duplicate", "cancelled"]
    assert other.beat(of_taken_back["lease_id"]) == {of_taken_back["lease_id"]: "ok"}, "its holder goes on"
    assert cluster.client.task(taken_back)["attempts"] == 1
    assert cluster.client.task(late)["status"] == "completed"
    again = cluster.client.submit("noop")
    assert lost < again
    assert again == JUMP + lost + 1
    for one in (worker, other):
        one.line.close()


def test_a_running_worker_goes_on(run: Commands, farm: Farm, tmp_path: Path) -> None:
    cluster = farm(1, TASKS_PATH=str(HANDLERS), WORKER_HEARTBEAT_INTERVAL="0.5")
    run.use(cluster)
    task_id = cluster.client.submit("slow", {"folder": str(tmp_path)})
    wait_until((tmp_path / "runs").exists, "the task to run")
    assert run("backup", tmp_path / "b").code == 0
    cluster.dispatcher.kill()
    assert run("restore", tmp_path / "b", "--force").code == 0
    cluster.start_dispatcher()
    (tmp_path / "go").touch()
    task = cluster.client.wait(task_id, 10)
    assert (task["status"], task["result"]) == ("completed", {"task": task_id})
    assert (tmp_path / "runs").read_text() == "run\n", "it ran once"


# what is refused


def test_a_running_dispatcher_must_be_stopped_first(run: Commands, saved: Path) -> None:
    store = SqliteStore(run.database)
    try:
        for words in (["--force"], ["--dry-run"], []):
            said = run("restore", saved, *words)
            assert f"a dispatcher runs on {run.database}: stop it first" in said.fault
            assert said.code == 2
    finally:
        store.close()


def test_no_dispatcher_starts_during_a_restore(run: Commands, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def look(path: Path) -> Any:
        with Path(f"{run.database}.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path)
        return original(path)

    original = backup.inspect
    monkeypatch.setattr(backup, "inspect", look)
    assert run("restore", saved).code == 0
    assert len(found) == 2, "locked when the backup is read, and when the copy is"


def flipped(data: bytes) -> bytes:
    at = data.index(b'{"n":12345}')  # inside a task's data, where SQLite itself notices nothing
    return data[: at + 5] + b"9" + data[at + 6 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit of a task": (flipped, "not those that were written"),
    "the header": (lambda data: b"X" + data[1:], "is damaged, or no database"),
    "the seal": (lambda data: data[:-5] + b"0000\n", "not those that were written"),
    "cut in half": (lambda data: data[: len(data) // 2], "is damaged"),
    "cut by a byte": (lambda data: data[:-1], "is damaged"),
    "cut inside its seal": (lambda data: data[:-60], "was cut short"),
    "empty": (lambda data: b"", "is damaged, or no database"),
    "no database": (lambda data: b"SQLite format 3\0" + b"?" * 4080, "is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_backup_is_refused(run: Commands, saved: Path, tmp_path: Path, name: str) -> None:
    harm, reason = DAMAGE[name]
    make_queue(run.database, 3, 0)
    saved.write_bytes(harm(saved.read_bytes()))
    before = run.database.read_bytes()
    said = run("restore", saved, "--force")
    assert reason in said.fault
    assert said.code == 1
    assert run.database.read_bytes() == before
    assert names(tmp_path) == {"saved", "queue.db", "queue.db.lock"}


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("PRAGMA user_version = 9999", "newer than this program's"),
        ("PRAGMA user_version = 0", "holds no queue of Taskmill"),
        ("DELETE FROM meta", "holds no queue of Taskmill"),
        ("UPDATE counts SET n = n + 1 WHERE state = 'pending'", "its counts are not those of its tasks"),
        ("UPDATE tasks SET ready = 0 WHERE id = 9", "its counts are not those of its tasks"),
        (f"UPDATE sqlite_sequence SET seq = {2**53 - 10}", "too near to their end at 2^53"),
    ],
)
def test_a_file_that_is_sound_and_still_no_backup(run: Commands, tmp_path: Path, sql: str, reason: str) -> None:
    make_queue(tmp_path / "other.db")
    change(tmp_path / "other.db", sql)
    said = run("restore", tmp_path / "other.db")
    assert reason in said.fault
    assert not run.database.exists()


def test_other_files_that_are_refused(run: Commands, tmp_path: Path) -> None:
    assert "No such file" in run("restore", tmp_path / "none").fault
    assert "Is a directory" in run("restore", tmp_path).fault
    make_queue(run.database)
    assert "is the queue itself" in run("restore", run.database, "--force").fault
    (tmp_path / "link.db").symlink_to(run.database)
    run.set(DB_PATH=str(tmp_path / "link.db"))
    assert "is a symbolic link" in run("restore", tmp_path / "none").fault
    run.set(DATABASE_URL="postgresql://db/queue")
    assert "pg_restore" in run("restore", tmp_path / "none").fault


# what becomes of a queue that is there


def test_a_queue_that_is_there_is_never_deleted(run: Commands, saved: Path, tmp_path: Path) -> None:
    make_queue(run.database, 3, 0)
    before = run.database.read_bytes()
    said = run("restore", saved)
    assert said.code == 2
    assert "exists: --force moves it aside to queue.db.before-restore-" in said.err
    assert run.database.read_bytes() == before
    assert aside(tmp_path) == []
    said = run("restore", saved, "--force")
    assert said.code == 0
    [kept] = aside(tmp_path)
    assert str(kept) in said.out
    assert kept.read_bytes() == before
    assert contents(run.database) == {"pending": 10}
    assert "is another queue" in said.out


def killed_queue(folder: Path) -> Callable[[Path], None]:
    """Puts the files of a dispatcher that was killed in a place: three tasks, the newest commits in the WAL alone."""
    make_queue(folder / "killed.db", 2, 0)
    store = SqliteStore(folder / "killed.db")
    store.write(lambda tx: submit(tx, [Submission("noop", "{}")], Terms()))
    files = {suffix: (folder / f"killed.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    store.close()

    def put(database: Path) -> None:
        for suffix, data in files.items():
            Path(f"{database}{suffix}").write_bytes(data)

    return put


def test_a_queue_goes_aside_with_its_wal(run: Commands, saved: Path, tmp_path: Path) -> None:
    killed_queue(tmp_path)(run.database)
    said = run("restore", saved, "--force")
    assert said.code == 0, said
    kept, wal = aside(tmp_path)
    assert wal.name == f"{kept.name}-wal"
    assert wal.stat().st_size
    assert not Path(f"{run.database}-wal").exists()
    assert run("restore", kept, "--force").code == 0, "and can come back"
    assert contents(run.database) == {"pending": 3}


def test_a_wal_without_its_queue_is_not_applied_to_the_new_one(run: Commands, saved: Path, tmp_path: Path) -> None:
    killed_queue(tmp_path)(run.database)
    run.database.unlink()
    assert run("restore", saved).code == 0
    assert contents(run.database) == {"pending": 10}
    assert [path.name.endswith("-wal") for path in aside(tmp_path)] == [True], "and is kept"


def test_a_queue_that_cannot_be_read_goes_aside(run: Commands, saved: Path, tmp_path: Path) -> None:
    run.database.write_bytes(b"?" * 5000)
    said = run("restore", saved, "--force")
    assert said.code == 0
    assert "cannot be read: the ids that it handed out are not known" in said.out
    assert [path.read_bytes() for path in aside(tmp_path)] == [b"?" * 5000]


def test_ids_go_on_above_those_of_both(run: Commands, saved: Path) -> None:
    make_queue(run.database)
    change(run.database, "UPDATE sqlite_sequence SET seq = 5000000000")
    said = run("restore", saved, "--force")
    assert said.code == 0
    assert "new tasks get ids above 6,000,000,000" in said.out
    assert backup.inspect(run.database).last_id == 5_000_000_000 + JUMP


def test_a_dry_run_changes_nothing(run: Commands, saved: Path, tmp_path: Path) -> None:
    make_queue(run.database, 3, 0)
    before = run.database.read_bytes()
    said = run("restore", saved, "--dry-run")
    assert said.code == 0
    assert "2 leases end as lost" in said.out
    assert said.out.endswith("nothing was changed (--dry-run)\n")
    assert run.database.read_bytes() == before
    assert aside(tmp_path) == []


def test_an_older_schema_is_brought_up_to_date(
    run: Commands, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sql"
    shutil.copytree(migrations.FOLDER, folder)
    newest = migrations.steps()[-1][0]
    (folder / f"{newest + 1:04}_more.sql").write_text("CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;\n")
    monkeypatch.setattr(migrations, "FOLDER", folder)
    said = run("restore", saved)
    assert said.code == 0, said
    assert f"its schema {newest} is brought up to {newest + 1}" in said.out
    assert backup.inspect(run.database).schema == newest + 1


# crashes

KILLED = """
import os, sys
from pathlib import Path
left = int(sys.argv[1])
def dying(call):
    def count(*args, **more):
        global left
        if call is unlink and ("restoring" in str(args[0]) or not os.path.exists(args[0])):
            return call(*args, **more)
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*args, **more)
    return count
unlink = os.unlink
os.link, os.rename, os.replace, os.unlink = map(dying, (os.link, os.rename, os.replace, os.unlink))
from cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def test_killed_at_any_step_nothing_is_lost(run: Commands, saved: Path, tmp_path: Path) -> None:
    """Before each change of a name: the queue is the old one, or the new one, or for a moment none can be opened;
    never an empty one, never one with the other's WAL. And the next run brings it to an end."""
    put, seen = killed_queue(tmp_path), set()
    for step in range(30):
        for path in tmp_path.iterdir():
            if path.name.startswith("queue.db"):
                path.unlink()
        put(run.database)
        command = [sys.executable, "-c", KILLED, str(step), "restore", str(saved), "--force"]
        code = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=20, check=False).returncode
        assert code in (0, 9)
        if step % 2:  # a dispatcher tries to start in between; else the next run comes at once
            seen.add(what_stands(run.database))
        if code:
            assert run("restore", saved, "--force").code == 0
        assert contents(run.database) == {"pending": 10}
        assert {"pending": 3} in [contents(path) for path in aside(tmp_path) if is_queue(path)]
        assert not [name for name in names(tmp_path) if "restoring" in name or "placeholder" in name]
        if code == 0 and step % 2:
            break
    assert seen == {"old", "none", "new"}


def is_queue(path: Path) -> bool:
    return not path.name.endswith(("-wal", "-shm")) and path.stat().st_size > 1000


def what_stands(database: Path) -> str:
    """As a dispatcher that is started finds it."""
    assert database.exists()
    try:
        opening.open_writer(database).close()
    except opening.CannotOpen as error:
        assert "is corrupt" in str(error)  # noqa: PT017
        return "none"
    return {3: "old", 10: "new"}[contents(database)["pending"]]


def test_a_full_disk_changes_nothing(
    run: Commands, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_queue(run.database, 3, 0)
    before = run.database.read_bytes()

    def full(*_: Any) -> None:
        raise apsw.FullError("database or disk is full")

    for place in ("copy", "raise_ids"):
        with monkeypatch.context() as patch:
            patch.setattr(backup, place, full)
            assert "disk is full; nothing was changed" in run("restore", saved, "--force").fault
    monkeypatch.setattr(SqliteStore, "write", full)
    assert "nothing was changed" in run("restore", saved, "--force").fault
    assert run.database.read_bytes() == before
    assert names(tmp_path) == {"saved", "queue.db", "queue.db.lock"}
    assert os.stat(run.database).st_nlink == 1
